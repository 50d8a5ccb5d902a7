"""The key attributes of a few offers, by rules and by a generator.

First the rules: codes, quantities, colors, and brands learned from the titles. They need no model and read some
thousands of titles a second. Then a generator, which is a language model that writes `key: value` pairs. In place of a
model, a table of answers writes here. One answer is no list of pairs: it counts as invalid and gives no attributes.
"""

from collections.abc import Sequence

from afmrl import AttributeExtractor, AttributeGenerator, AttributeSchema, KeyAttributes, Offer
from afmrl.generator.engines.base import Completion, Request, Sampling, Usage

offers = [
    Offer("1", "Dymo D1 Tape S-0720680 9mm x 7m, black on white", category="tape"),
    Offer("2", "Dymo D1 12mm x 7m black/yellow 45018", category="tape"),
    Offer("3", "Dymo LetraTag label maker blue, 4 AA batteries", category="label maker"),
]
extractor = AttributeExtractor.learn(offers)
for offer in offers:
    print(f"rules      {offer.id}  {extractor.extract(offer)}")


class Answers:
    """An engine: anything that completes requests can write attributes, a local model or a server as well."""

    usage = Usage()
    written = {
        "1": "Brand: Dymo; Width: 9 mm; Colour: black on white",
        "2": "brand: dymo; width: 12 mm; color: unknown",
        "3": "A label maker by Dymo, in blue.",
    }

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, *, batch_size: int, progress: bool
    ) -> list[list[Completion]]:
        """One completion of each request."""
        return [[Completion(self.written[request.offer_id], num_tokens=12, ended=True)] for request in requests]


generator = AttributeGenerator(Answers())
written = generator.attributes(offers)
for offer, attributes in zip(offers, written, strict=True):
    print(f"generator  {offer.id}  {attributes}")
print("invalid:", generator.invalid)

# A schema brings other shops' keys to one name, leaves out what the category does not have, and keeps an order.
schema = AttributeSchema.of({"tape": ["brand", "width", {"key": "color", "synonyms": ["colour"]}]})
print("in schema ", schema.apply(written[0], "tape"))
print("compared  ", KeyAttributes.of({"Color": "Black on White"}) == KeyAttributes.of({"color": "black on white"}))
