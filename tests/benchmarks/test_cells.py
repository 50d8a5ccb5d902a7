"""The cells of a benchmark: what is put is read again, by one process and by several at once."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest

from cells import Cells
from conftest import ROOT


def script(text, *arguments):
    """A process that runs `text` with the benchmarks' modules."""
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT / "src")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)], env={**os.environ, "PYTHONPATH": path}
    )


@pytest.fixture
def cells(tmp_path):
    return Cells(tmp_path / "results" / "some.parquet", "arm", "seed")


def test_a_cell_is_read_as_it_was_put(cells):
    record = {
        "mrr": 0.25,
        "rows": {"": {"ranks": np.array([3, 1, 7000]), "general": {"nmi": 0.5}}, "sft": {"ranks": np.array([1])}},
        "found": np.array([0.125, 1.0]),
        "families": ["a", "ü"],
        "history": [{"loss": 0.5}, {}],
        "nothing": None,
    }
    cells.put(("x", 0), record)
    found = Cells(cells.path, "arm", "seed").get(("x", 0))
    np.testing.assert_equal(found, {"arm": "x", "seed": 0, **record})
    table = pq.read_table(cells.path)
    assert table.column_names == ["arm", "seed", "record", "rows//ranks", "rows/sft/ranks", "found"]
    assert table["rows//ranks"].to_pylist() == [[3, 1, 7000]]


def test_cells_are_in_the_order_of_their_keys(cells):
    assert cells.keys() == cells.all() == [] and cells.get(("a", 0)) is None
    for key in (("b", 10), ("b", 9), ("a", 1)):
        cells.put(key, {"seen": list(key)})
    assert cells.keys() == [("a", 1), ("b", 9), ("b", 10)]
    assert [cell["seen"] for cell in cells.all()] == [["a", 1], ["b", 9], ["b", 10]]
    assert cells.get(("a", 9)) is None


def test_putting_a_cell_again_replaces_it_alone(cells):
    cells.put(("a", 0), {"ranks": np.array([1, 2])})
    cells.put(("b", 0), {"ranks": np.array([5]), "others": {"ranks": np.array([6])}})
    cells.put(("a", 0), {"ranks": np.array([3, 4])})
    assert [cell["ranks"].tolist() for cell in cells.all()] == [[3, 4], [5]]
    assert "others" not in cells.get(("a", 0)) and cells.get(("b", 0))["others"]["ranks"].tolist() == [6]


def test_cells_of_another_benchmark_are_refused(cells):
    cells.put(("a", 0), {})
    with pytest.raises(SystemExit, match=r"some\.parquet: has no column 'fold'; these are not cells of this benchmark"):
        Cells(cells.path, "arm", "seed", "fold").all()


def test_an_array_whose_name_would_be_read_as_a_path_is_refused(cells):
    with pytest.raises(ValueError, match="may neither hold '/'"):
        cells.put(("a", 0), {"a/b": np.array([1])})


def test_processes_that_put_at_once_lose_nothing(cells):
    """Each adds cells of its own; a reader meanwhile sees whole cells only."""
    putting = """
        import sys
        import numpy as np
        from cells import Cells
        cells = Cells(sys.argv[1], "arm", "seed")
        for seed in range(15):
            cells.put((sys.argv[2], seed), {"ranks": np.full(200, seed)})
    """
    processes = [script(putting, cells.path, arm) for arm in "ab"]
    while any(process.poll() is None for process in processes):
        assert all((cell["ranks"] == cell["seed"]).all() for cell in cells.all())
    assert [process.returncode for process in processes] == [0, 0]
    assert cells.keys() == [(arm, seed) for arm in "ab" for seed in range(15)]


def test_a_killed_put_loses_nothing_and_blocks_nobody(cells):
    cells.put(("a", 0), {"ranks": np.array([1])})
    killed = script(
        """
        import os, signal, sys
        import pyarrow.parquet
        from cells import Cells
        def write_table(table, file, **options):
            file.write(b"PAR1 half a file")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        pyarrow.parquet.write_table = write_table
        Cells(sys.argv[1], "arm", "seed").put(("a", 1), {})
        """,
        cells.path,
    )
    assert killed.wait(60) == -signal.SIGKILL
    assert cells.keys() == [("a", 0)]
    cells.put(("a", 1), {"ranks": np.array([2])})
    assert [cell["ranks"].tolist() for cell in cells.all()] == [[1], [2]]
