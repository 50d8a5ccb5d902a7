"""How a command reads its catalogs: the options that all of them share, and the line that says what was read."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from afmrl.data.reading import ReadOptions

_GROUP = Group("Reading", help="Where a file does not say it itself; `afmrl check` shows what is read.", sort_key=90)


@Parameter(name="*", group=_GROUP)
@dataclass
class Reading:
    """Options of reading a catalog's file."""

    columns: Annotated[list[str] | None, Parameter(negative=())] = None
    """Which column is read as which field or attribute: title=Name,id=SKU,brand=Marke; id=# takes the rows' numbers."""
    delimiter: str | None = None
    """Between the cells of a table: one character, or tab; by default detected."""
    encoding: str | None = None
    """Of the text: utf-8, utf-16, cp1252, …; by default detected."""

    fetch: Annotated[bool, Parameter(negative=())] = False
    """Fetch images whose `image` is an http(s) address, once: into ~/.cache/afmrl/images, or where XDG_CACHE_HOME or
    AFMRL_IMAGE_CACHE says. Without it such images are left out and counted."""

    def options(self) -> ReadOptions:
        """What was given, for the reader.

        Raises:
            InputError: --columns that are not pairs of a name and a column.
        """
        from afmrl.data.reading import ReadOptions, column_pairs

        return ReadOptions(column_pairs(self.columns or ()), self.delimiter, self.encoding, self.fetch)


def read_options(reading: Reading | None) -> ReadOptions:
    """The options of a command that may have got none."""
    return (reading or Reading()).options()


class _OnStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        print(f"afmrl: {warning}{record.getMessage()}", file=sys.stderr)


def show_readings() -> None:
    """Say on stderr what each catalog gave, in the first process alone."""
    logger = logging.getLogger("afmrl.reading")
    logger.propagate = False
    if not logger.handlers:
        is_first = os.environ.get("RANK", "0") == "0"
        logger.addHandler(_OnStderr() if is_first else logging.NullHandler())
        logger.setLevel(logging.INFO)
