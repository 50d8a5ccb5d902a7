"""How should an offer's text show what the seller states as attributes (brand, model number, color, …)?

    python benchmarks/seller_attributes.py run --data DIR   # continues where it was; 15 minutes
    python benchmarks/seller_attributes.py table            # differences to the title alone, with intervals; Markdown

Nothing is trained: all-MiniLM-L6-v2 as it comes, BM25, TF-IDF, and the sum of cosine and BM25. Queries are those of the
splits train and val, which the default was chosen on; the gallery is each set's whole one. The sets' own attributes are
few: brands in wdc_products, manufacturers in amazon_google, materials and patterns in magento_luma. So two sets become
feeds whose titles lack what a column says: brand and model numbers are moved from the titles into `brand` and
`mpn`, of the gallery or of half of all offers. And in one feed half of all offers state a GTIN.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import SellerAttributes, not_in, stated_attributes
from afmrl.data.catalog import read_catalog
from afmrl.data.check_digit import check_digit
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.text import embedder_text
from afmrl.evaluation.metrics import recall_at_k
from afmrl.evaluation.significance import paired_bootstraps
from afmrl.files import content_hash, file_hash, fingerprint
from afmrl.matching.facts.codes import codes
from afmrl.retrieval.bm25 import bm25_scores
from afmrl.retrieval.exact import ranks_of_scores
from afmrl.retrieval.floors import tfidf_scores
from afmrl.retrieval.fusion import scaled
from afmrl.retrieval.words import OfferWords
from afmrl.terminal import quiet_libraries
from cells import Cells
from common import add_data, minilm, percent, rows_by_product, run_and_table

SPLITS = ("train", "val")
SCORERS = {"minilm": "MiniLM", "bm25": "BM25", "tfidf": "TF-IDF", "sum": "MiniLM + BM25"}
NONE, OURS = "title alone", "as afmrl does by default"
KEY = ("feed", "rendering")


def values(attributes: KeyAttributes) -> str:
    """The values alone."""
    return ", ".join(value for _, value in attributes)


@dataclass(frozen=True)
class Rendering:
    """A text of title and seller attributes."""

    text: Callable[[str, KeyAttributes], str]
    new: bool = False
    """Leave out what the title says already."""
    gtin: bool = False
    which: SellerAttributes = "identifying"

    def of(self, offer: Offer) -> str:
        """The text of an offer."""
        title, stated = offer_text(offer), stated_attributes(offer, self.which)
        if not self.gtin:
            stated = stated.without("gtin")
        if self.new:
            stated = not_in(stated, title)
        return self.text(title, stated) if stated else title


RENDERINGS = {
    NONE: Rendering(lambda title, _: title),
    "title, key: value": Rendering(lambda title, stated: f"{title}\n{stated}"),
    "title, values": Rendering(lambda title, stated: f"{title} {values(stated)}"),
    "title, values not in the title": Rendering(lambda title, stated: f"{title} {values(stated)}", new=True),
    "values not in the title, title": Rendering(lambda title, stated: f"{values(stated)} {title}", new=True),
    "title, values not in the title, GTIN": Rendering(
        lambda title, stated: f"{title} {values(stated)}", new=True, gtin=True
    ),
    "title, key: value of all keys": Rendering(lambda title, stated: f"{title}\n{stated}", which="all"),
}


def moved(offers: Sequence[Offer], chosen: Callable[[Offer], bool]) -> list[Offer]:
    """The offers, brand and model numbers of the chosen ones moved from the title into attributes."""
    extractor = AttributeExtractor.learn([offer for offer in offers if offer.extra["split"] == "train"])
    found = []
    for offer in offers:
        stated: dict[str, str] = {}
        words = offer.title.split()
        brand = extractor.extract(dataclasses.replace(offer, attributes={})).as_dict().get("brand", "")
        names = set(brand.split()), set(codes(offer.title.casefold()))
        for key, of_key in zip(("brand", "mpn"), names, strict=True):
            taken = [word for word in words if _plain(word, key) in of_key]
            if taken:
                stated[key] = " ".join(taken)
                words = [word for word in words if word not in taken]
        if chosen(offer) and stated and len(words) >= 2:
            offer = dataclasses.replace(offer, title=" ".join(words), attributes={**offer.attributes, **stated})
        found.append(offer)
    return found


def _plain(word: str, key: str) -> str:
    letters = word.casefold().strip(",;:()[]|")
    return letters if key == "brand" else "".join(filter(str.isalnum, letters))


def with_gtins(offers: Sequence[Offer]) -> list[Offer]:
    """Half of the offers state the GTIN of their product."""
    found = []
    for offer in offers:
        body = str(int(content_hash(offer.product_id)[:12], 16))[:12].rjust(12, "4")
        stated = {**offer.attributes, "gtin": body + str(check_digit(body))}
        found.append(dataclasses.replace(offer, attributes=stated) if _is_half(offer) else offer)
    return found


def _is_half(offer: Offer) -> bool:
    return int(content_hash(offer.id)[:2], 16) < 128


FEEDS: dict[str, tuple[str, Callable[[list[Offer]], list[Offer]]]] = {
    **{name: (name, lambda offers: offers) for name in ("wdc_products", "amazon_google", "magento_luma")},
    **{
        f"{name}, moved in {where}": (name, lambda offers, chosen=chosen: moved(offers, chosen))
        for name in ("wdc_products", "abt_buy")
        for where, chosen in (
            ("the gallery", lambda offer: offer.extra["role"] == "gallery"),
            ("half of both", _is_half),
        )
    },
    "wdc_products, GTINs in half": ("wdc_products", with_gtins),
}


def run(data: Path, cells: Cells, names: Sequence[str]) -> None:
    """Measure the cells that are missing."""
    embedder = Embedder.from_pretrained(minilm())
    known: dict[str, np.ndarray] = {}
    for name in names:
        folder, made = FEEDS[name]
        path = data / folder / "products.jsonl"
        offers = made(list(read_catalog(path, max_bad=0.05, check_images=False).offers))
        gallery = sorted((o for o in offers if o.extra["role"] == "gallery"), key=lambda offer: offer.id)
        rows = rows_by_product(gallery)
        queries = [
            offer
            for offer in offers
            if offer.extra["role"] == "query" and offer.extra["split"] in SPLITS and offer.product_id in rows
        ]
        relevant = [np.array(rows[offer.product_id]) for offer in queries]
        for rendering in (*RENDERINGS, OURS):
            ours, theirs, asked, words = texts(rendering, queries, gallery)
            made_of = fingerprint(file_hash(path), ours, theirs, asked, words)
            cell = cells.get((name, rendering))
            if cell is not None and cell["made_of"] == made_of:
                continue
            started = time.time()
            dense = _embeddings(embedder, ours, known) @ _embeddings(embedder, theirs, known).T
            bm25 = bm25_scores(asked, words)
            scores = {"minilm": dense, "bm25": bm25, "tfidf": tfidf_scores(asked, words), "sum": dense + scaled(bm25)}
            cells.put(
                (name, rendering),
                {
                    "made_of": made_of,
                    "changed": sum(
                        text != offer_text(o) for text, o in zip((*asked, *words), (*queries, *gallery), strict=True)
                    ),
                    "offers": len(queries) + len(gallery),
                    "products": " ".join(offer.product_id for offer in queries),
                    "seconds": round(time.time() - started, 1),
                    "ranks": {scorer: ranks_of_scores(found, relevant) for scorer, found in scores.items()},
                },
            )
            print(f"{name}: {rendering}: {time.time() - started:.0f} s", flush=True)


def texts(
    rendering: str, queries: Sequence[Offer], gallery: Sequence[Offer]
) -> tuple[list[str], list[str], list[str], list[str]]:
    """What is read of queries and gallery by the embedder, and of both by BM25."""
    if rendering == OURS:
        ours, theirs = ([embedder_text(o, seller_attributes="identifying") for o in of] for of in (queries, gallery))
        words = OfferWords(seller_attributes="identifying")
        return ours, theirs, [words.of_query(o) for o in queries], [words.of_gallery(o) for o in gallery]
    ours, theirs = ([RENDERINGS[rendering].of(offer) for offer in offers] for offers in (queries, gallery))
    return ours, theirs, ours, theirs


def _embeddings(embedder: Embedder, texts: Sequence[str], known: dict[str, np.ndarray]) -> np.ndarray:
    texts = [" ".join(text.split()) for text in texts]  # MiniLM reads a line's end as a space
    missing = sorted({text for text in texts if text not in known}, key=len)
    if missing:
        found = embedder.model.encode(missing, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        known.update(zip(missing, found, strict=True))
    return np.stack([known[text] for text in texts])


def table(cells: Cells) -> str:
    """Markdown: by feed and rendering the difference in R@1 to the title alone; a rendering that changes nothing beside
    an earlier one is left out."""
    lines = [f"| feed | text | changed | {' | '.join(SCORERS.values())} |", "|---|---|---|" + "---|" * len(SCORERS)]
    for name in FEEDS:
        base = cells.get((name, NONE))
        if base is None:
            continue
        clusters = base["products"].split(" ")
        plain = {scorer: recall_at_k(base["ranks"][scorer], 1) for scorer in SCORERS}
        alone = " | ".join(f"{100 * of.mean():.1f} %" for of in plain.values())
        lines.append(f"| {name}, {len(clusters)} queries | {NONE} | | {alone} |")
        seen: list[dict[str, np.ndarray]] = []
        for rendering in (*RENDERINGS, OURS):
            cell = cells.get((name, rendering))
            if cell is None or rendering == NONE:
                continue
            ranks = cell["ranks"]
            if rendering != OURS and any(all(np.array_equal(of[s], ranks[s]) for s in SCORERS) for of in seen):
                continue
            seen.append(ranks)
            tests = paired_bootstraps({s: recall_at_k(ranks[s], 1) for s in SCORERS}, plain, clusters)
            shown = [percent(t.difference.mean, t.difference.low, t.difference.high, "+") for t in tests.values()]
            lines.append(f"| | {rendering} | {cell['changed'] / cell['offers']:.0%} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    parser, _, measured, _ = run_and_table(__doc__, "seller_attributes")
    add_data(measured)
    measured.add_argument("--feeds", nargs="+", default=list(FEEDS), choices=list(FEEDS))
    arguments = parser.parse_args()
    cells = Cells(arguments.results, *KEY)
    if arguments.command == "table":
        print(table(cells))
        return
    quiet_libraries()
    run(arguments.data, cells, arguments.feeds)


if __name__ == "__main__":
    main()
