"""Two writers and two readers of a folder: one wins, the other says so in a line, readers see whole versions."""

import pytest

from hostile.faulted import lines_of

pytestmark = pytest.mark.slow
RACES = ["embed", "attributes", "index", "match", "evaluate", "split"]


@pytest.fixture(scope="module")
def raced(quickstart, tmp_path_factory):
    """Kind of folder -> what its races came to, of one process that imports the libraries once."""
    return lines_of(quickstart, tmp_path_factory.mktemp("races"), races=3)


@pytest.mark.parametrize("kind", RACES)
def test_one_writer_wins_and_readers_see_whole_versions(raced, kind):
    races = [race for race in raced if race["race"] == kind]
    assert len(races) == 3
    for race in races:
        assert race["faults"] == [], race
        assert 0 in race["codes"]
    assert sum(race["reads"] for race in races) > 3
