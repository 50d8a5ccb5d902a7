"""Long commands killed, or out of room, at any moment: readers see whole versions, and the same command ends the same.

A moment is a write, a sync, a rename, a removal, a step of a model (see `faults`). A seeded sample is tried, each kind
of moment of each command first; AFMRL_KILLS=500 tries so many.
"""

import os

import pytest

from hostile.faulted import lines_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]
TRIALS = int(os.environ.get("AFMRL_KILLS", "36"))
SEED = int(os.environ.get("AFMRL_SEED", "0"))


@pytest.mark.parametrize(("kind", "share"), [("kill", 1.0), ("full", 0.7)])
def test_at_any_moment(quickstart, tmp_path, kind, share):
    trials = lines_of(quickstart, tmp_path, kind=kind, trials=round(share * TRIALS), seed=SEED)
    assert len(trials) >= 0.8 * share * TRIALS
    assert [trial for trial in trials if trial["faults"]] == []
    reached = [trial for trial in trials if trial["code"] == (-9 if kind == "kill" else 2)]
    assert len(reached) > 0.7 * len(trials)  # the others: folders that are there already, files that are not needed
