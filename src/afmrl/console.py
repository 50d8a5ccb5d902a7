"""Where tables are printed: the terminal, or a log or pipe, which has no width of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 160  # columns; rich takes 80 where it finds no terminal, and breaks every table's cells


def output_console() -> Console:
    """rich's console of the standard output; COLUMNS in the environment sets its width."""
    from rich.console import Console

    unknown = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(width=LOG_WIDTH) if unknown else Console()
