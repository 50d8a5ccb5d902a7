"""The folder of a match before an update: whether an update can follow, and what bound the match."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from afmrl.data.damage import checked_files, other_format
from afmrl.data.rows import is_catalog
from afmrl.errors import InputError
from afmrl.files import read_object, unsealed
from afmrl.matching.group_ids import OFFERS_FILE, SUMMARY_FILE
from afmrl.matching.output import REPORT_FILE, VERSION
from afmrl.matching.verdicts import VERDICTS_FILE, Bindings


def updatable_summary(matches: Path) -> dict[str, Any]:
    """summary.json of a match that can be updated.

    Raises:
        InputError: there is no complete match, or none that an update can follow.
    """
    if not (matches / SUMMARY_FILE).is_file() or not (matches / OFFERS_FILE).is_file():
        raise InputError(f"--update {matches}: holds no complete match; make one: afmrl match CATALOG --out {matches}")
    again = f"afmrl match CATALOG --out {matches} --previous {matches} makes it again and keeps the ids"
    try:
        summary = unsealed(read_object(matches / SUMMARY_FILE))
        cannot = bool(summary["model"] or summary["against"]) or not is_catalog(summary["catalog"] or "memory.jsonl")
        if (found := summary["version"]) != VERSION:
            raise ValueError(other_format(found, VERSION))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{matches / SUMMARY_FILE}: cannot be used ({error}); {again}") from error
    if cannot:
        raise InputError(
            f"--update {matches}: only a match of one catalog's file without a model can be updated; match the whole "
            "catalog with --previous, which keeps the ids too"
        )
    return summary


def bindings_of(matches: Path, summary: Mapping[str, Any], verdicts: str | Path | Literal[False] | None) -> Bindings:
    """What the verdicts say that were given, that are in the folder, or that bound the match before.

    Raises:
        InputError: they cannot be read, or are gone.
    """
    if verdicts is False:
        return Bindings()
    before = (summary.get("verdicts") or {}).get("from")
    path = verdicts or (matches / VERDICTS_FILE if (matches / VERDICTS_FILE).is_file() else before)
    if path is None:
        return Bindings()
    if verdicts is None and not Path(path).is_file():
        raise InputError(
            f"verdicts {path}: they bound the match before and are gone; give them with --verdicts, or --no-verdicts"
        )
    return Bindings.read(path)


def check_unchanged(matches: Path, summary: Mapping[str, Any]) -> None:
    """Refuse to replace rows of files that are no longer as they were written, as a spreadsheet leaves them.

    Raises:
        InputError: names them.
    """
    files = {name: of for name, of in summary["files"].items() if name != REPORT_FILE}
    faults = [f"{one.what} {one.fault}" for one in checked_files(matches, files) if one.fault]
    if faults:
        raise InputError(
            f"{matches}: {'; '.join(faults)}. An update copies their rows; put them back, or make the match again with "
            f"its ids: afmrl match CATALOG --out {matches} --previous {matches}"
        )
