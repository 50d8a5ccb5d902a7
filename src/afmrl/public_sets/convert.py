"""A public set becomes a catalog: checked row by row, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from afmrl.data.bad_rows import MAX_BAD_OF_A_SET, checked_max_bad
from afmrl.data.catalog import read_report, write_catalog
from afmrl.data.damage import Checked
from afmrl.data.images import verify_image
from afmrl.data.offer import Offer, SkippedRow
from afmrl.data.offer_from_row import MAX_TITLE_CHARACTERS
from afmrl.data.pairs import read_pair_rows
from afmrl.errors import InputError
from afmrl.files import check_regular, read_lines, write_lines
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.terminal import track

SHOWN = 5
CATALOG, PAIRS, QRELS, SKIPPED, ABOUT = "catalog.jsonl", "pairs.jsonl", "qrels.tsv", "skipped.jsonl", "DATASET.md"


@dataclass
class Conversion:
    """What was written."""

    offers: int = 0
    with_image: int = 0
    products: int = 0
    by_split: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Offers by split and role."""
    pairs: int = 0
    matches: int = 0
    skipped: list[SkippedRow] = field(default_factory=list)
    """Rows left out, and offers that were kept without their image."""
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def convert(
    dataset: PublicDataset,
    folder: str | Path,
    out: str | Path,
    *,
    max_bad: float = MAX_BAD_OF_A_SET,
    check_images: bool = True,
    images: bool = True,
) -> Conversion:
    """Write OUT/catalog.jsonl, pairs.jsonl and qrels.tsv where the set has them, DATASET.md, skipped.jsonl.

    Images stay where they are: the catalog names them relative to OUT where they are below it, otherwise absolutely.
    An offer whose image is missing or broken keeps its title; without a title it is left out. Both are listed in
    skipped.jsonl.

    Args:
        max_bad: share of the rows that may be left out or lose their image.
        check_images: read every image's header (about 0.1 ms each).
        images: False leaves images out altogether, and with them the offers that have no title.

    Raises:
        InputError: the folder is not of this set, half downloaded, or has more than `max_bad` bad rows.
    """
    checked_max_bad(max_bad)
    folder, out = Path(folder).resolve(), Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {dataset.title} is not here.\n{_where(dataset)}")
    try:
        reading = dataset.read(folder)
        out.mkdir(parents=True, exist_ok=True)
        converter = _Converter(dataset, reading, folder, max_bad, check_images and images, images)
        return converter.write(out)
    except InputError as error:
        raise InputError(f"{error}\n{_where(dataset)}") from error


def check_converted(folder: Path) -> Iterator[Checked]:
    """Read a catalog's folder, and say of each thing what it is and what is wrong with it."""
    if not (folder / ABOUT).is_file():
        yield Checked(f"{CATALOG} that no public set was written to")
    for name, read in ((CATALOG, _read_catalog), (PAIRS, _read_pairs), (QRELS, _read_qrels)):
        if (folder / name).exists():
            try:
                check_regular(folder / name)
                yield Checked(f"{name}: {read(folder / name)}")
            except (InputError, OSError, UnicodeDecodeError) as error:
                yield Checked(name, str(error))


def _read_catalog(path: Path) -> str:
    reading = read_report(path)
    if left_out := sum(reading.left_out.values()):
        raise InputError(f"{left_out:,} of {reading.rows:,} rows cannot be used; `afmrl check {path}` lists them")
    return f"{reading.rows:,} offers"


def _read_pairs(path: Path) -> str:
    return f"{sum(1 for _ in read_pair_rows(path)):,} labeled pairs"


def _read_qrels(path: Path) -> str:
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        if len(line.split("\t")) != 3:
            raise InputError(f"{path}:{number}: expected query, offer and grade; convert the set again")
    return f"{len(lines):,} matches"


def _where(dataset: PublicDataset) -> str:
    return f"{dataset.title} comes from {dataset.homepage}\n{dataset.download}"


class _Converter:
    def __init__(
        self,
        dataset: PublicDataset,
        reading: Reading,
        folder: Path,
        max_bad: float,
        check_images: bool,
        images: bool,
    ) -> None:
        self.dataset, self.reading, self.folder = dataset, reading, folder
        self.max_bad, self.check_images, self.images = max_bad, check_images, images
        self.result = Conversion(notes=reading.notes)
        self.written: set[str] = set()
        self.products: set[str] = set()
        self.seen = 0

    def write(self, out: Path) -> Conversion:
        """All files, each complete or as it was before."""
        result = self.result
        (out / ABOUT).unlink(missing_ok=True)  # it says that the others are complete
        write_catalog(out / CATALOG, self._offers())
        files = [out / CATALOG]
        for name, lines in ((PAIRS, self._pairs()), (QRELS, self._matches())):
            if _write_lines(out / name, lines):
                files.append(out / name)
        skipped = (json.dumps(dataclasses.asdict(row)) for row in result.skipped)
        if _write_lines(out / SKIPPED, skipped):
            files.append(out / SKIPPED)
        _write_lines(out / ABOUT, iter([_about(self.dataset, result)]))
        result.files = (*files, out / ABOUT)
        result.products = len(self.products)
        return result

    def _offers(self) -> Iterator[Offer]:
        for row in track(self.reading.rows, f"reading {self.dataset.title}", unit="rows"):
            self.seen += 1
            offer = self._checked(row)
            if offer is not None:
                yield offer
        self._refuse_too_bad()

    def _checked(self, row: SourceRow | SkippedRow) -> Offer | None:
        if isinstance(row, SkippedRow):
            self.result.skipped.append(row)
            return None
        offer = row.offer if self.images else dataclasses.replace(row.offer, image="")
        fault = self._fault(offer)
        if fault is None and self.check_images and offer.image and (reason := _image_fault(offer.image)):
            if not offer.title.strip():
                fault = "image", reason
            else:
                self._skip(row, "image", f"{reason}; kept without image", "image")
                offer = dataclasses.replace(offer, image="")
        if fault is not None:
            self._skip(row, *fault)
            return None
        self._count(offer)
        return offer

    def _fault(self, offer: Offer) -> tuple[str, str] | None:
        """Field and reason why an offer cannot be written, its image aside."""
        if not offer.id:
            return "id", "is missing"
        if offer.id in self.written:
            return "id", f"{offer.id!r} is already in the catalog; the first row is kept"
        if not offer.title.strip() and not offer.image:
            return "title, image", "are both empty, one of them is needed"
        if len(offer.title) > MAX_TITLE_CHARACTERS:
            return "title", f"has {len(offer.title):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read"
        try:
            texts = (offer.id, offer.title, offer.description, offer.image, offer.category, offer.product_id)
            json.dumps([texts, dict(offer.attributes), dict(offer.extra)], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "line", "holds half a character (a lone surrogate)"
        return None

    def _skip(self, row: SourceRow, field_name: str, reason: str, lost: Literal["row", "image"] = "row") -> None:
        self.result.skipped.append(SkippedRow(row.file, row.row, field_name, reason, row.offer.id, lost))

    def _count(self, offer: Offer) -> None:
        self.written.add(offer.id)
        self.result.offers += 1
        self.result.with_image += bool(offer.image)
        if offer.product_id:
            self.products.add(offer.product_id)
        self.result.by_split[str(offer.extra.get("split", "")), str(offer.extra.get("role", ""))] += 1

    def _refuse_too_bad(self) -> None:
        bad = self.result.skipped
        if self.result.offers and len(bad) <= self.max_bad * self.seen:
            return
        if not bad:
            raise InputError(f"{self.folder}: no offers were found")
        listed = "\n".join(f"  {row}" for row in bad[:SHOWN])
        more = f"\n  … and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        raise InputError(
            f"{self.folder}: {len(bad):,} of {self.seen:,} rows cannot be used whole, more than the tolerated share of "
            f"{self.max_bad:g}; is the download complete? If so, raise --max-bad, or leave images out with "
            f"--no-images:\n{listed}{more}"
        )

    def _pairs(self) -> Iterator[str]:
        for pair in self.reading.pairs() if self.reading.pairs else ():
            if pair.left in self.written and pair.right in self.written:
                self.result.pairs += 1
                yield json.dumps(dataclasses.asdict(pair), ensure_ascii=False)

    def _matches(self) -> Iterator[str]:
        for query, offer in self.reading.matches() if self.reading.matches else ():
            if query in self.written and offer in self.written:
                self.result.matches += 1
                yield f"{query}\t{offer}\t1"


def _image_fault(path: str) -> str:
    """Why an image cannot be used, "" where it can."""
    try:
        verify_image(path)
    except (InputError, OSError) as error:
        return str(error).removeprefix("image ")
    return ""


def _write_lines(path: Path, lines: Iterator[str]) -> bool:
    """Write lines; without any the file is removed. True if there is a file."""
    if write_lines(path, lines):
        return True
    path.unlink()
    return False


def _about(dataset: PublicDataset, result: Conversion) -> str:
    counts = "\n".join(
        f"| {split or '–'} | {role or '–'} | {count:,} |" for (split, role), count in sorted(result.by_split.items())
    )
    notes = "".join(f"- {note}\n" for note in result.notes)
    return f"""\
# {dataset.title}

{dataset.what}

- License: {dataset.license}
- Source: {dataset.homepage}
- Cite: {dataset.citation}
- File layout known from: {dataset.layout_source}
{notes}
{result.offers:,} offers ({result.with_image:,} with an image), {result.pairs:,} labeled pairs, {result.matches:,}
matches of queries with several products; {len(result.skipped):,} rows left out or kept without their image.

| split | role | offers |
|---|---|---|
{counts}

Role "both": the offer is searched among all others, and is found by them."""
