"""`afmrl schema`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Summary
from afmrl.data.bad_rows import MAX_BAD
from afmrl.errors import InputError
from afmrl.terminal import output_console

if TYPE_CHECKING:
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.attributes.schema_learning import KeyDiscrimination
    from afmrl.data.offer import Offer


def schema(
    catalog: Path,
    *,
    out: Path,
    attributes: Path | None = None,
    max_keys: int = 8,
    max_values: int = 0,
    max_bad: float = MAX_BAD,
    reading: Reading | None = None,
) -> Summary:
    """Learn which attributes tell the products of a catalog apart, and write them as a schema to look at and edit.

    Of each category the keys that split the most pairs of siblings: offers with near titles that are not one product.
    It goes to `afmrl attributes --schema`, and to a recipe's `sft.prompt.attribute_schema`.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet.
    out
        The schema: .yaml or .json.
    attributes
        Learn from what `afmrl attributes` wrote for this catalog (its folder, or a JSONL file of id and
        key_attributes), instead of the sellers' own attributes.
    max_keys
        Of a category.
    max_values
        A key with at most so many values gets them as the only ones allowed; by default none does.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.attributes.schema_learning import key_discrimination, learn_schema
    from afmrl.data.catalog import read_catalog
    from afmrl.data.offer import skipped_in_words

    if out.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise InputError(f"--out {out}: the schema's file must end in .yaml or .json")
    read = read_catalog(catalog, max_bad=max_bad, check_images=False, options=read_options(reading))
    if read.skipped:
        print(skipped_in_words(read.skipped), file=sys.stderr)
    offers = read.offers
    if attributes is None:
        written = [KeyAttributes.of(offer.attributes) for offer in offers]
        if not any(written):
            raise InputError(
                f"{catalog}: no offer has attributes of its seller; write some with `afmrl attributes` and give its "
                "folder as --attributes"
            )
    else:
        written = _written(attributes, offers)
    found = key_discrimination(offers, written)
    learned = learn_schema(offers, written, max_keys=max_keys, max_values=max_values, discrimination=found)
    learned.save(out)
    _print({name: found.get("" if name == "*" else name, []) for name in learned.categories}, learned.as_dict())
    print(f"Schema: {out}")
    return {"out": out, "offers": len(offers), "categories": learned.as_dict(), "discrimination": found}


def _written(path: Path, offers: Sequence[Offer]) -> list[KeyAttributes]:
    """The key attributes of each offer; empty if there are none."""
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.bulk.written_attributes import read_key_attributes

    known = read_key_attributes(path)
    found = [known.get(offer.id, KeyAttributes()) for offer in offers]
    if not any(found):
        raise InputError(f"--attributes {path}: holds no attributes of these offers; was it made of this catalog?")
    return found


def _print(found: dict[str, list[KeyDiscrimination]], chosen: dict[str, list]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "category", "key", title="Pairs of siblings, and of one product, that a key splits", title_justify="left"
    )
    for column in ("offers", "siblings split", "one product split"):
        table.add_column(column, justify="right")
    for category, keys in chosen.items():
        names = [key if isinstance(key, str) else key["key"] for key in keys]
        facts = {one.key: one for one in found[category]}
        for place, name in enumerate(names):
            row = [category if not place else "", name]
            if name in facts:
                one = facts[name]
                row += [
                    f"{one.offers:,}",
                    f"{one.split:,} of {one.all_siblings:,}",
                    f"{one.same_split:,} of {one.all_same:,}",
                ]
            table.add_row(*map(Text, row))  # a category in square brackets is no markup
    output_console().print(table)
