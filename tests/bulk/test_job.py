"""Bulk jobs: what they write, what they do again, and that no moment of death loses or doubles a row."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bulk_fakes import FakeOptions, FakeWork, content, embedding, run_job, write_rows

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.folder import EMBEDDINGS, BulkFolder, key_attributes_of, offers_of, shard_batches
from afmrl.bulk.job import BulkJob
from afmrl.bulk.known_rows import KnownRows, SeenIds
from afmrl.bulk.quarantine import TooManyBadRows
from afmrl.bulk.state import FolderState
from afmrl.data.rows import CatalogFile
from afmrl.errors import InputError
from conftest import save_image

HERE = Path(__file__).parent


def rows_of(count, mark=""):
    return [(f"o{number}", f"title {number}{mark}") for number in range(count)]


def files(out):
    return sorted(path.name for path in Path(out).iterdir())


def listed(out):
    return [shard["file"] for shard in BulkFolder.open(out).manifest["shards"]]


def quarantined(out):
    return list(BulkFolder.open(out).quarantine())


@pytest.fixture
def catalog(tmp_path):
    return write_rows(tmp_path / "offers.jsonl", rows_of(100))


# what is written


def test_a_run_writes_every_offer_once_in_the_catalogs_order(tmp_path, catalog):
    summary = run_job(catalog, tmp_path / "out")
    assert (summary.read, summary.rows, summary.new, summary.kept) == (100, 100, 100, 0)
    found = content(tmp_path / "out")
    assert list(found) == [identifier for identifier, _ in rows_of(100)]
    np.testing.assert_array_equal(found["o7"][3], embedding("title 7"))
    folder = BulkFolder.open(tmp_path / "out", kind=EMBEDDINGS)
    assert [shard["rows"] for shard in folder.manifest["shards"]] == [20] * 5
    assert folder.manifest["complete"] and folder.manifest["rows"] == len(folder) == 100
    assert folder.dimension == 4
    assert files(tmp_path / "out") == sorted([".lock", "manifest.json", "quarantine.jsonl", *listed(tmp_path / "out")])


def test_an_offer_comes_back_as_it_was(tmp_path):
    image = save_image(tmp_path / "a.png")
    row = {
        "id": "1", "title": "Kleid", "category": "dress", "image": "a.png", "attributes": {"b": "2", "a": "1"},
        "product_id": "p", "seller": "shop", "description": "long",
    }  # fmt: skip
    (tmp_path / "o.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"id": "2", "title": "x"}) + "\n")
    run_job(tmp_path / "o.jsonl", tmp_path / "out")
    (batch,) = BulkFolder.open(tmp_path / "out").batches()
    first, second = offers_of(batch)
    assert (first.title, first.category, first.image, first.product_id) == ("Kleid", "dress", str(image), "p")
    assert list(first.attributes.items()) == [("b", "2"), ("a", "1")]
    assert first.extra == {"seller": "shop"} and second.extra == {}
    assert key_attributes_of(batch) == [KeyAttributes(), KeyAttributes()]
    assert batch.column("key_attributes").null_count == 2


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_every_format_is_read(tmp_path, ending):
    import pyarrow as pa

    path = tmp_path / f"o.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([{"id": i, "title": t} for i, t in rows_of(50)]), path)
    else:
        delimiter = "," if ending == "csv" else "\t"
        path.write_text("\n".join(delimiter.join(row) for row in [("id", "title"), *rows_of(50)]))
    source = CatalogFile(path)
    BulkJob(source, FakeWork(), tmp_path / "out").run()
    assert list(content(tmp_path / "out")) == [identifier for identifier, _ in rows_of(50)]
    assert source.total() == 50


# what is done again


def test_only_what_changed_is_done_again(tmp_path, catalog):
    out, log = tmp_path / "out", tmp_path / "log"
    run_job(catalog, out)
    before = listed(out)
    changed = [(i, f"{t} new" if i in ("o3", "o50") else t) for i, t in rows_of(100) if i not in ("o4", "o99")]
    write_rows(catalog, [*changed, ("extra", "one more")])
    summary = run_job(catalog, out, options=FakeOptions(log=str(log)))
    assert log.read_text().split() == ["o3", "o50", "extra"]
    assert (summary.kept, summary.again, summary.new, summary.removed, summary.rows) == (96, 2, 1, 2, 99)
    found = content(out)
    assert found.keys() == {i for i, _ in changed} | {"extra"}
    np.testing.assert_array_equal(found["o3"][3], embedding("title 3 new"))
    # untouched shards stay as they are, the others are gone
    assert set(before) & set(listed(out)) == {before[1], before[3]}
    assert files(out) == sorted([".lock", "manifest.json", "quarantine.jsonl", *listed(out)])


def test_an_unchanged_catalog_costs_no_work_in_any_order(tmp_path, catalog):
    out, log = tmp_path / "out", tmp_path / "log"
    run_job(catalog, out)
    before = listed(out)
    shuffled = rows_of(100)
    random.Random(0).shuffle(shuffled)
    write_rows(catalog, shuffled)
    summary = run_job(catalog, out, options=FakeOptions(log=str(log)))
    assert (summary.kept, summary.new, summary.again, summary.removed) == (100, 0, 0, 0)
    assert not log.exists() and listed(out) == before


def test_another_model_does_everything_again(tmp_path, catalog):
    run_job(catalog, tmp_path / "out")
    summary = run_job(catalog, tmp_path / "out", options=FakeOptions(version="2"))
    assert (summary.kept, summary.again, summary.rows) == (0, 100, 100)
    np.testing.assert_array_equal(content(tmp_path / "out")["o7"][3], embedding("title 7", "2"))


@pytest.mark.parametrize("field", ["category", "seller", "attributes", "product_id", "image"])
def test_every_column_that_is_written_counts(tmp_path, field):
    save_image(tmp_path / "a.png", 0)
    save_image(tmp_path / "b.png", 0)
    row = {"id": "1", "title": "x", "category": "c", "seller": "s", "attributes": {"k": "v"}, "product_id": "p"}
    row["image"] = "a.png"
    path = tmp_path / "o.jsonl"
    path.write_text(json.dumps(row))
    run_job(path, tmp_path / "out")
    assert run_job(path, tmp_path / "out").kept == 1
    path.write_text(json.dumps({**row, field: {"k": "w"} if field == "attributes" else "b.png"}))
    assert run_job(path, tmp_path / "out").again == 1


def test_another_image_under_the_same_name_is_noticed(tmp_path):
    image = save_image(tmp_path / "a.png", 0)
    path = tmp_path / "o.jsonl"
    path.write_text('{"id": "1", "title": "x", "image": "a.png"}\n')
    run_job(path, tmp_path / "out")
    status = image.stat()
    save_image(image, 1)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert run_job(path, tmp_path / "out").again == 1


def test_small_shards_of_many_nights_are_joined(tmp_path):
    out, catalog = tmp_path / "out", tmp_path / "o.jsonl"
    for night in range(1, 8):
        write_rows(catalog, rows_of(3 * night))
        run_job(catalog, out)
    assert [shard["rows"] for shard in BulkFolder.open(out).manifest["shards"]] == [12, 9]
    assert list(content(out)) == [identifier for identifier, _ in rows_of(21)]


# bad rows


def test_bad_rows_go_to_quarantine_and_the_others_on(tmp_path):
    rows = [*rows_of(10), ("empty", ""), ("u1", "unreadable"), ("o3", "again"), *[(f"p{n}", "t") for n in range(10)]]
    path = write_rows(tmp_path / "o.jsonl", rows)
    with open(path, "ab") as file:
        file.write(
            b'not json\n{"id": "gone", "title": "t", "image": "gone.jpg"}\n{"id": "gone2", "image": "gone.jpg"}\n'
            b'{"id": "web", "image": "http://x/a"}\n'
        )
    summary = run_job(path, tmp_path / "out")
    assert (summary.rows, summary.quarantined, summary.lost_images, summary.read) == (21, 6, 1, 27)
    found = {entry["row"]: (entry["id"], entry["field"], entry["reason"]) for entry in quarantined(tmp_path / "out")}
    assert set(found) == {11, 12, 13, 24, 25, 26, 27}
    assert found[11] == ("empty", "title, image", "are both empty, one of them is needed")
    assert found[12] == ("u1", "image", "unreadable")
    assert found[13][:2] == ("o3", "id") and "is already in row 4" in found[13][2]
    assert found[24][1] == "line"
    assert found[25][:2] == ("gone", "image") and "no such file" in found[25][2]
    assert found[26][:2] == ("gone2", "image") and "no such file" in found[26][2]
    assert "not fetched" in found[27][2]
    # and they are tried again: this one is mended, that one has gone bad
    now = {"u1": "mended", "o5": "unreadable"}
    write_rows(path, [(i, now.get(i, t)) for i, t in rows if i != "empty"])
    summary = run_job(path, tmp_path / "out")
    assert (summary.new, summary.removed, summary.quarantined, summary.rows) == (1, 2, 2, 20)
    assert "u1" in content(tmp_path / "out") and "o5" not in content(tmp_path / "out")


def test_an_id_twice_is_found_wherever_its_rows_stand(tmp_path):
    rows = rows_of(3000)
    twice = [*rows[:2], ("o1", "b"), *rows[2:], ("o2999", "c"), ("o5", "d")]
    path = write_rows(tmp_path / "o.jsonl", twice)
    for run in ("first", "again"):  # the second finds them among the known
        run_job(path, tmp_path / "out", shard_rows=1000, options=FakeOptions(window=500))
        reasons = {entry["row"]: entry["reason"] for entry in quarantined(tmp_path / "out")}
        assert reasons == {
            3: "'o1' is already in row 2",
            3002: "'o2999' is already in row 3001",
            3003: "'o5' is already in row 7",
        }, run
        assert content(tmp_path / "out")["o1"][0] == "title 1"


def test_too_many_bad_rows_end_the_run_and_nothing_is_lost(tmp_path):
    rows = [(f"o{number}", "unreadable" if number % 10 == 0 else f"title {number}") for number in range(100)]
    path, log = write_rows(tmp_path / "o.jsonl", rows), tmp_path / "log"
    with pytest.raises(TooManyBadRows, match=r"10 of the 100 rows read are bad.*share of 0.09"):
        run_job(path, tmp_path / "out", max_bad=0.09)
    with pytest.raises(InputError, match="not complete"):
        BulkFolder.open(tmp_path / "out")
    assert len((tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()) == 10
    summary = run_job(path, tmp_path / "out", max_bad=0.1, options=FakeOptions(log=str(log)))
    assert (summary.kept, summary.rows, summary.quarantined) == (90, 90, 10)
    assert not log.read_text()


def test_a_share_that_cannot_be_chance_ends_the_run_early(tmp_path):
    rows = [(f"o{number}", "" if number % 10 == 0 else f"title {number}") for number in range(50_000)]
    path = write_rows(tmp_path / "o.jsonl", rows)
    with pytest.raises(TooManyBadRows) as caught:
        run_job(path, tmp_path / "out", max_bad=0.01, shard_rows=5000, options=FakeOptions(window=500))
    assert int(re.search(r"of the ([\d,]+) rows read", str(caught.value))[1].replace(",", "")) < 1200
    # a few more than allowed at the start may be chance
    rows = [(f"o{number}", "" if number < 25 else f"title {number}") for number in range(4000)]
    write_rows(path, rows)
    assert run_job(path, tmp_path / "o2", max_bad=0.01, shard_rows=5000, options=FakeOptions(window=500)).rows == 3975


def test_nothing_good_is_refused_whatever_is_tolerated(tmp_path):
    path = write_rows(tmp_path / "o.jsonl", [("a", ""), ("b", "unreadable")])
    with pytest.raises(TooManyBadRows, match="2 of the 2"):
        run_job(path, tmp_path / "out", max_bad=1.0)


def test_an_empty_catalog_removes_nothing(tmp_path, catalog):
    run_job(catalog, tmp_path / "out")
    catalog.write_text("")
    with pytest.raises(InputError, match="the catalog is empty"):
        run_job(catalog, tmp_path / "out")
    assert len(content(tmp_path / "out")) == 100


# death


@pytest.fixture
def fast_folder():
    """A folder in memory where there is one: these tests sync a thousand times."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def left_behind(out):
    return set(files(out)) - set(listed(out)) - {".lock", "manifest.json", "quarantine.jsonl"}


def kill_everywhere(tmp_path, start, catalog, *, lose_power, stride, save_seconds):
    """Runs that die at every stride-th moment; each folder is then looked at and finished here."""
    arguments = {
        "start": str(start) if start else None, "catalog": str(catalog), "folder": str(tmp_path / "runs"),
        "lose_power": lose_power, "stride": stride, "save_seconds": save_seconds,
    }  # fmt: skip
    command = [sys.executable, str(HERE / "bulk_fakes.py"), json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    assert not moments[-1]["killed"] and moments[-1]["exit"] == 0  # the last one had no more moments to die at
    return [entry["moment"] for entry in moments[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("lose_power", [False, True])
@pytest.mark.parametrize("save_seconds", [60.0, 0.0])
def test_a_first_run_killed_at_any_moment_goes_on(fast_folder, lose_power, save_seconds):
    rows = [*rows_of(70), ("u", "unreadable"), ("o3", "twice")]
    catalog = write_rows(fast_folder / "o.jsonl", rows)
    run_job(catalog, fast_folder / "undisturbed")
    expected = content(fast_folder / "undisturbed")
    moments = kill_everywhere(
        fast_folder, None, catalog, lose_power=lose_power, stride=1 if save_seconds else 3, save_seconds=save_seconds
    )
    assert len(moments) >= 20
    log, kept = fast_folder / "log", 0
    for moment in moments:
        out = fast_folder / "runs" / str(moment)
        log.write_text("")
        try:
            assert content(out) == expected, moment  # died after it was complete
        except InputError as error:
            assert "complete" in str(error) or "manifest.json" in str(error), (moment, error)
        before, kept = kept, run_job(catalog, out, options=FakeOptions(log=str(log))).kept
        assert kept >= before, moment  # whoever died later loses no more
        again = log.read_text().split()
        assert content(out) == expected, moment
        assert len(again) + kept == 70 and len(again) == len(set(again)), moment
        assert list(content(out)) == list(expected), moment
        assert not left_behind(out), moment
        assert sorted(entry["row"] for entry in quarantined(out)) == [71, 72], moment
    # work of the shards that were complete is not lost
    assert kept >= 60


@pytest.mark.slow
@pytest.mark.parametrize("lose_power", [False, True])
def test_an_update_killed_at_any_moment_leaves_the_old_or_the_new(fast_folder, lose_power):
    catalog = write_rows(fast_folder / "o.jsonl", rows_of(70))
    run_job(catalog, fast_folder / "start")
    old = content(fast_folder / "start")
    changed = [(i, f"{t} new" if int(i[1:]) % 9 == 0 else t) for i, t in rows_of(100) if int(i[1:]) % 11]
    write_rows(catalog, changed)
    run_job(catalog, fast_folder / "undisturbed")
    new = content(fast_folder / "undisturbed")
    assert {i: title for i, (title, *_) in new.items()} == dict(changed)
    moments = kill_everywhere(
        fast_folder, fast_folder / "start", catalog, lose_power=lose_power, stride=1, save_seconds=60.0
    )
    assert len(moments) >= 20
    seen = set()
    for moment in moments:
        out = fast_folder / "runs" / str(moment)
        now = content(out)
        assert now in (old, new), moment
        seen.add(now == new)
        if moment % 3 == 0:  # and the catalog may have gone back meanwhile
            write_rows(catalog, rows_of(70))
            run_job(catalog, out)
            assert content(out) == old, moment
            write_rows(catalog, changed)
        run_job(catalog, out)
        assert content(out) == new, moment
        assert not left_behind(out), moment
    assert seen == {False, True}


def test_a_journal_of_a_run_that_is_complete_does_not_count(tmp_path, catalog):
    out = tmp_path / "out"
    run_job(catalog, out)
    stale = {"begun_on": 0, "shards": [{"file": "part-00099.parquet", "rows": 5, "bytes": 1}]}
    (out / "journal.json").write_text(json.dumps(stale))  # its removal was not on disk yet when the power went
    assert run_job(catalog, out).kept == 100
    assert not (out / "journal.json").exists()


def test_a_full_disk_is_a_message_and_what_is_complete_stays(tmp_path):
    catalog = write_rows(tmp_path / "o.jsonl", [(i, t + " " + os.urandom(60).hex()) for i, t in rows_of(100)])
    program = (
        "import resource, sys; from bulk_fakes import run_job; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1)); "
        "run_job(sys.argv[1], sys.argv[2], save_seconds=0.0)"
    )
    run_job(catalog, tmp_path / "undisturbed", save_seconds=0.0)
    size = max(path.stat().st_size for path in (tmp_path / "undisturbed").glob("part-*"))
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program, str(catalog), str(tmp_path / "out"), str(size - 200)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert "InputError" in done.stderr and "what is complete stays" in done.stderr, done.stderr[-2000:]
    # small shards were saved, joining them had no room
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) > 5
    assert not list((tmp_path / "out").glob("part-*.tmp"))
    log = tmp_path / "log"
    assert run_job(catalog, tmp_path / "out", options=FakeOptions(log=str(log))).kept == 100
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")


# what is refused


def test_two_runs_do_not_write_one_folder(tmp_path, catalog):
    with FolderState(tmp_path / "out", EMBEDDINGS), pytest.raises(InputError, match=r"another process \(\d+\)"):
        run_job(catalog, tmp_path / "out")
    assert run_job(catalog, tmp_path / "out").rows == 100


def test_a_folder_with_something_else_is_left_alone(tmp_path, catalog):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.parquet").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        run_job(catalog, tmp_path / "out")
    assert (tmp_path / "out" / "part-00000.parquet").read_text() == "mine"


def test_torn_and_missing_shards_are_named(tmp_path, catalog):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no such folder"):
        BulkFolder.open(out)
    run_job(catalog, out)
    path = out / listed(out)[2]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=f"{path.name}: is torn"):
        BulkFolder.open(out)
    with pytest.raises(InputError, match=f"{path.name}: is torn"):
        run_job(catalog, out)
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(InputError, match=f"{path.name}: is not what was written"):
        list(BulkFolder.open(out).batches())
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: the manifest lists it"):
        BulkFolder.open(out)


def test_a_reader_names_what_it_was_asked_wrongly(tmp_path, catalog):
    run_job(catalog, tmp_path / "out")
    folder = BulkFolder.open(tmp_path / "out")
    with pytest.raises(InputError, match="has no column 'colour'"):
        list(folder.batches(["id", "colour"]))
    with pytest.raises(InputError, match="`afmrl attributes` is needed"):
        BulkFolder.open(tmp_path / "out", kind="afmrl-attributes")
    shard = folder.manifest["shards"][0]
    assert [batch.num_rows for batch in shard_batches(tmp_path / "out", shard, ["id"], 15)] == [15, 5]
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(InputError, match="is of format 9"):
        BulkFolder.open(tmp_path / "out")


@pytest.mark.parametrize("options", [{"shard_rows": 0}, {"max_bad": 1.5}, {"max_bad": -0.1}])
def test_sizes_and_shares_that_make_no_sense(tmp_path, catalog, options):
    with pytest.raises(InputError, match=next(iter(options))):
        run_job(catalog, tmp_path / "out", **options)


# what is remembered


def test_known_rows_and_seen_ids_agree_with_dicts():
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 500, 2000).astype(np.uint64)
    checks = rng.integers(0, 3, 2000).astype(np.uint64)
    known = KnownRows(ids, checks)
    assert known.num_ids == len(set(ids.tolist()))
    asked = np.arange(1, 700, dtype=np.uint64)
    wanted = rng.integers(0, 4, len(asked)).astype(np.uint64)
    pairs = set(zip(ids.tolist(), checks.tolist(), strict=True))
    kept = known.keep(asked, wanted)
    assert kept.tolist() == [pair in pairs for pair in zip(asked.tolist(), wanted.tolist(), strict=True)]
    live = list(zip(ids[known.live].tolist(), checks[known.live].tolist(), strict=True))
    assert len(live) == kept.sum() and set(live) <= set(zip(asked.tolist(), wanted.tolist(), strict=True))
    is_known = known.note(asked, np.arange(1, 700, dtype=np.uint32))
    assert is_known.tolist() == [identifier in set(ids.tolist()) for identifier in asked.tolist()]
    np.testing.assert_array_equal(known.rows(asked), np.where(is_known, np.arange(1, 700), 0))
    seen, reference = SeenIds(), {}
    for _ in range(50):
        fresh = [i for i in set(rng.integers(0, 10_000, 37).tolist()) if i not in reference]
        numbers = rng.integers(1, 2**32, len(fresh))
        seen.add(np.array(fresh, dtype=np.uint64), numbers)
        reference.update(zip(fresh, numbers.tolist(), strict=True))
    asked = np.arange(10_000, dtype=np.uint64)
    assert seen.rows(asked).tolist() == [reference.get(i, 0) for i in range(10_000)]
    empty = KnownRows(asked[:0], asked[:0])
    assert not empty.keep(asked, asked).any() and not empty.rows(asked).any() and empty.num_ids == 0


def test_what_is_remembered_of_an_offer_is_some_25_bytes():
    ids = np.random.default_rng(0).integers(0, 2**63, 100_000).astype(np.uint64)
    known, seen = KnownRows(ids, ids), SeenIds()
    for start in range(0, len(ids), 1000):
        seen.add(ids[start : start + 1000], np.arange(start + 1, start + 1001))
    size = sum(value.nbytes for value in vars(known).values() if isinstance(value, np.ndarray))
    assert size == 25 * len(ids)
    assert sum(a.nbytes + b.nbytes for a, b in seen._runs) == 12 * len(ids)
