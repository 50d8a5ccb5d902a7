"""Long work says how far it is: a bar on a terminal, a line now and then in a log, nothing where nobody asked."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

import afmrl.terminal
from afmrl.terminal import Progress, StageProgress, Stages, Timeline, track

WORK = """
import time
from afmrl.terminal import Stages, track
for _ in track(range(40), "reading", unit="rows"):
    time.sleep(0.02)
with Stages(True)("comparing", 1234) as advance:
    advance(1000)
    time.sleep(0.3)
    advance(234)
print("result")
"""


def on_terminal(code):
    """Runs code with the standard error on a terminal; gives the standard output and what the terminal got."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    output = process.communicate()[0]
    assert process.returncode == 0, drawn.decode()
    return output.decode(), drawn.decode()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(afmrl.terminal, "LOG_SECONDS", 0.05)


def test_a_bar_is_drawn_on_a_terminal_and_results_stay_apart():
    output, drawn = on_terminal(WORK)
    assert output == "result\n"
    for text in ("reading", "40 of 40", "rows/s", "comparing", "1,000 of 1,234", "1,234 of 1,234"):
        assert text in drawn


def test_a_log_gets_a_line_now_and_then(capsys, hasty):
    for _ in track(range(1000, 1004), "reading", unit="rows"):
        time.sleep(0.08)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert 2 <= len(lines) <= 7
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d reading: \d of 4 rows, ", line) for line in lines)
    assert "reading: 4 of 4 rows, " in lines[-1] and lines[-1].endswith(" in all")


def test_work_that_ends_well_ends_at_its_total():
    with Progress("coarse", 1500, show=False) as progress:
        progress.advance(1024)
        assert "1,024 of 1,500" in progress.line()
    assert "1,500 of 1,500" in progress.line()
    with Progress("estimated", lambda: 1500, show=False) as progress:
        progress.advance(1024)
    assert "1,024 of 1,024" in progress.line()
    with pytest.raises(ValueError, match="broken"), Progress("broken", 10, show=False) as progress:
        progress.advance(3)
        raise ValueError("broken")
    assert "3 of 10" in progress.line()


def test_short_work_leaves_no_line(capsys):
    assert list(track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_nobody_asked(capsys, hasty):
    for _ in track(range(3), "reading", show=False):
        time.sleep(0.08)
    with Stages(False)("comparing", 3) as advance:
        advance(3)
        time.sleep(0.08)
    assert capsys.readouterr() == ("", "")


def test_a_failure_ends_the_lines(capsys, hasty):
    with pytest.raises(ValueError, match="broken"), Progress("reading", 10):
        raise ValueError("broken")
    time.sleep(0.12)
    assert capsys.readouterr().err == ""


def test_work_may_be_asked_how_far_it_is():
    done, total = [0], [None]
    with Progress("embedding", lambda: total[0], done=lambda: done[0], unit="offers", show=False) as progress:
        assert progress.line() == "embedding: 0 offers, 0 a second"
        done[0], total[0] = 2_000, 1_000  # an estimate that was too low
        assert progress.line().startswith("embedding: 2,000 of 2,000 offers, ")
        assert progress.line().endswith(" a second, 0:00 left")


def test_training_shows_its_steps_and_the_time_left_of_the_run(capsys, hasty):
    from types import SimpleNamespace

    timeline = Timeline({"sft": 10.0, "agcl": 30.0})
    (callback,) = StageProgress(timeline)("sft", "SFT", 10)
    callback.on_train_begin(None, SimpleNamespace(global_step=4), None)  # resumed
    callback.on_step_end(None, SimpleNamespace(global_step=6), None)
    time.sleep(0.12)
    callback.on_train_end(None, SimpleNamespace(global_step=6), None)
    first = capsys.readouterr().err.splitlines()[0]
    assert " SFT: 6 of 10" in first
    assert "(whole run: " in first
    assert timeline.measured["sft"] > 0.1
