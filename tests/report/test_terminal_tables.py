"""Tables of metrics on the terminal."""

import io
import sys

import pytest
from rich.console import Console

from afmrl.report.terminal_tables import print_ladder, render_table
from afmrl.terminal import output_console

ROWS = [
    ("title only [raw]", {"recall@1": (0.15, 0.12, 0.18), "mrr": (0.3, 0.27, 0.33)}),
    (
        "AGCL",
        {"mrr": (0.684, 0.66, 0.7), "recall@1": (0.554, 0.53, 0.58), "recall@10": (0.9, float("nan"), float("nan"))},
    ),
]


def printed(width: int, **options: object) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_ladder("a run", ROWS, console=console, **options)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_wide_terminal_has_one_line_a_row() -> None:
    lines = printed(130).splitlines()
    assert lines[0].strip() == "a run"
    assert next(line for line in lines if "R@1" in line).split() == ["R@1", "R@10", "MRR"]
    row = next(line for line in lines if "AGCL" in line)
    assert row.split() == ["AGCL", "55.4", "[53.0,", "58.0]", "90.0", "68.4", "[66.0,", "70.0]"]
    assert "title only [raw]" in lines[4] and "–" in lines[4]  # brackets are no markup; no R@10 there
    assert "95 % interval" in lines[-1]


def test_narrow_terminal_has_intervals_below_and_cuts_nothing() -> None:
    text = printed(72)
    assert max(map(len, text.splitlines())) <= 72
    for part in ("55.4", "[53.0, 58.0]", "68.4", "[66.0, 70.0]", "[27.0, 33.0]"):
        assert part in text
    above = next(line for line in text.splitlines() if "AGCL" in line)
    assert "[53.0" not in above


def test_metrics_can_be_chosen() -> None:
    assert "R@1" not in printed(100, metrics=["mrr"])


def test_best_of_a_column_is_bold() -> None:
    table = render_table("t", ROWS, metrics=["recall@1"])
    assert [cell.style for cell in table.columns[1].cells] == ["", "bold"]  # type: ignore[union-attr]


def test_no_rows() -> None:
    console = Console(width=80, file=io.StringIO())
    print_ladder("a run", [], console=console)
    assert " ".join(console.file.getvalue().split()) == "a run ── no rows"


@pytest.mark.parametrize(("terminal", "columns", "width"), [(False, "", 160), (False, "70", 70), (True, "70", 70)])
def test_a_log_has_room_for_a_table(monkeypatch, terminal, columns, width):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    assert output_console().width == width
