"""The work of `afmrl attributes`: key attributes of offers, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afmrl.bulk.attribute_writer import AttributeWriter, bulk_generator, generator_fingerprint
from afmrl.bulk.fingerprints import rendering_fingerprint
from afmrl.bulk.folder import ATTRIBUTES, schema
from afmrl.bulk.work import (
    WINDOW_BATCHES,
    AttributesOptions,
    Description,
    Made,
    Task,
    absolute,
    image_loader,
    record_batch,
)
from afmrl.files import fingerprint


class AttributesWork:
    """Writes key attributes with a generator.

    Args:
        options: which generator, and how.

    Raises:
        InputError: the generator does not load.
    """

    def __init__(self, options: AttributesOptions) -> None:
        self.options = options
        generator = bulk_generator(
            options.generator, options.device, options.schema, options.concurrency, options.show_sellers
        )
        self.writer = AttributeWriter(
            generator,
            images=image_loader(options.fetch),
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
        )
        made_by = generator_fingerprint(options.generator, generator)
        self._description = Description(
            kind=ATTRIBUTES,
            fingerprint=fingerprint(ATTRIBUTES, made_by, rendering_fingerprint(), options.max_new_tokens),
            schema=schema(ATTRIBUTES),
            manifest={"generator": {"path": absolute(options.generator), "fingerprint": made_by}},
            window=WINDOW_BATCHES * options.batch_size,
        )

    def describe(self) -> Description:
        """What this work is."""
        return self._description

    def run(self, tasks: Iterable[Task]) -> Iterator[Made]:
        """Do the tasks, in their order."""
        for task in tasks:
            written = self.writer.write(task.offers)
            places = sorted(written.completions)
            rows = record_batch(
                self._description.schema,
                task,
                places,
                self._description.fingerprint,
                [written.key_attributes[place] for place in places],
                {
                    "valid": [written.valid[place] for place in places],
                    "completion": [written.completions[place] for place in places],
                },
            )
            yield Made(task, rows, written.bad)
