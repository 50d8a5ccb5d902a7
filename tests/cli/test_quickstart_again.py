"""A quickstart into the folder of an earlier one: what it served was of another embedder."""

from __future__ import annotations

import shutil

from afmrl.cli.quickstart import INDEX, index_sample
from afmrl.index.address import open_index


def test_an_index_of_another_embedder_is_made_anew(quickstart, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(quickstart, folder)
    with open_index(str(folder / INDEX)) as index:
        offers, settings = len(index), index.settings
    shutil.rmtree(folder / INDEX)
    other = {**settings, "model": {"path": "other", "fingerprint": "0" * 16}}
    open_index(str(folder / INDEX), create=True, dimension=4, settings=other).close()
    index_sample(folder)
    with open_index(str(folder / INDEX)) as index:
        assert len(index) == offers
        assert index.settings["model"] == {**settings["model"], "path": index.settings["model"]["path"]}
    index_sample(folder)  # and its own stays
    with open_index(str(folder / INDEX)) as index:
        assert len(index) == offers
