"""Long commands killed, or out of room, at any moment: readers see whole versions, and the same command ends the same.

A moment is a write, a sync, a rename, a removal, a step of a model (see `faults`). A seeded sample is tried, each kind
of moment of each command first; AFMRL_KILLS=500 tries so many.
"""

import os

import pytest

from hostile.faulted import lines_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]
TRIALS = int(os.environ.get("AFMRL_KILLS", "26"))
SEED = int(os.environ.get("AFMRL_SEED", "0"))
ENDS = {"kill": -9, "full": 2}
"""Kind of fault -> the exit code of what it ends."""


@pytest.fixture(scope="module")
def trials(quickstart, tmp_path_factory):
    """What each trial came to."""
    wanted = {"kill": TRIALS, "full": TRIALS // 2}
    return lines_of(quickstart, tmp_path_factory.mktemp("killed"), trials=wanted, seed=SEED)


@pytest.mark.parametrize("kind", ENDS)
def test_at_any_moment(trials, kind):
    of_kind = [trial for trial in trials if trial["kind"] == kind]
    assert len({trial["command"] for trial in of_kind}) == 15
    assert [trial for trial in of_kind if trial["faults"]] == []
    reached = [trial for trial in of_kind if trial["code"] == ENDS[kind]]
    assert len(reached) > 0.6 * len(of_kind)  # the others: files that are removed, and steps that need no room
