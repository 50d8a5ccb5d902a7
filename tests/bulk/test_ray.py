"""The Ray engine: the same shards as on one machine, also when a worker dies."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bulk_fakes import FakeOptions, content, run_job, write_rows

from afmrl.bulk.embeddings import EmbedWork
from afmrl.bulk.folder import BulkFolder, embeddings_of
from afmrl.bulk.job import BulkJob
from afmrl.bulk.work import EmbedOptions
from afmrl.data.rows import CatalogFile
from afmrl.errors import InputError
from conftest import save_image

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    memory = 80 * 1024 * 1024
    cluster.add_node(num_cpus=1, object_store_memory=memory, include_dashboard=False)
    cluster.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        runtime_env={
            "env_vars": {
                "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            }
        },
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def ray_job(catalog, out, load, **arguments):
    from afmrl.bulk.ray import RayWork

    work = RayWork(load, workers=2)
    return BulkJob(CatalogFile(catalog), work, out, **{"shard_rows": 20, "max_bad": 0.5, **arguments}).run()


def files(out):
    return [(shard["file"], shard["rows"]) for shard in BulkFolder.open(out).manifest["shards"]]


def test_a_worker_killed_on_the_way_changes_nothing(tmp_path, cluster):
    rows = [*((f"o{number}", f"title {number}") for number in range(200)), ("u", "unreadable")]
    catalog = write_rows(tmp_path / "o.jsonl", rows)
    run_job(catalog, tmp_path / "local")
    marker, log = tmp_path / "died", tmp_path / "log"
    summary = ray_job(catalog, tmp_path / "ray", FakeOptions(dies_once=f"{marker}=o90", log=str(log)).load)
    assert marker.exists()
    assert (summary.new, summary.quarantined) == (200, 1)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert list(content(tmp_path / "ray")) == list(content(tmp_path / "local"))
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    # a run may go on with the other engine: nothing is to do
    assert run_job(catalog, tmp_path / "ray").kept == 200


def test_the_same_embeddings_as_on_one_machine(tmp_path, tiny_model, cluster):
    rows = [(f"o{number}", f"red silk dress {number}") for number in range(60)]
    catalog = write_rows(tmp_path / "o.jsonl", rows)
    image = save_image(tmp_path / "a.png", 0, (60, 60))
    with open(catalog, "a") as file:
        file.write('{"id": "p", "title": "wide", "image": "a.png"}\n')
    options = EmbedOptions(str(tiny_model), dtype="float32", batch_size=1, device="cpu")
    ray_job(catalog, tmp_path / "ray", partial(EmbedWork, options))
    BulkJob(CatalogFile(catalog), EmbedWork(options), tmp_path / "local", shard_rows=20).run()
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    for ours, theirs in zip(
        BulkFolder.open(tmp_path / "ray").batches(), BulkFolder.open(tmp_path / "local").batches(), strict=True
    ):
        np.testing.assert_allclose(embeddings_of(ours), embeddings_of(theirs), atol=1e-5)
        names = [name for name in ours.schema.names if name != "embedding"]
        assert ours.select(names).equals(theirs.select(names))
    assert ours.column("image").to_pylist()[-1] == str(image)


def test_a_model_that_does_not_load_is_one_message(tmp_path, cluster):
    os.makedirs(tmp_path / "empty")
    with pytest.raises(InputError, match="does not load"):
        ray_job(tmp_path / "o.jsonl", tmp_path / "out", partial(EmbedWork, EmbedOptions(str(tmp_path / "empty"))))
