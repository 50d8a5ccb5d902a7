"""What is no regular file is refused before it is opened: a pipe without a writer would be waited for for ever."""

import json
import os
import socket
import zipfile

import pytest

from afmrl.bulk.images.loader import ImageLoader
from afmrl.data.catalog import read_catalog
from afmrl.data.images import open_image, verify_image
from afmrl.data.pairs import read_pair_rows
from afmrl.errors import InputError
from afmrl.evaluation.qrels import read_qrels
from conftest import save_image

pytestmark = pytest.mark.timeout(60)
KINDS = ("pipe", "socket", "folder", "device", "link to a pipe")


@pytest.fixture(params=KINDS)
def odd(request, tmp_path):
    """A path with the ending .jpg that is no regular file."""
    path = tmp_path / "odd.jpg"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        request.addfinalizer(server.close)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    return path


@pytest.mark.parametrize("read", [verify_image, open_image, lambda path: ImageLoader().load(str(path))])
def test_an_image_is_refused(odd, read):
    with pytest.raises(InputError, match="regular file"):
        read(odd)


def test_a_catalogs_row_is_refused_and_the_others_are_read(odd):
    path = odd.parent / "offers.jsonl"
    rows = [{"id": "odd", "image": odd.name}] + [{"id": f"g{n}", "title": "dress"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalog = read_catalog(path, max_bad=0.5)
    assert len(catalog) == 20
    assert "regular file" in catalog.skipped[0].reason


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json", ".xml", ".parquet", ".tsv"])
def test_a_catalog_is_refused(odd, ending):
    path = odd.rename(odd.with_name(f"odd{ending}"))
    with pytest.raises(InputError, match=r"no such file|not a regular file"):
        read_catalog(path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_pairs_and_qrels_are_refused(odd, ending):
    path = odd.rename(odd.with_name(f"odd{ending}"))
    with pytest.raises(InputError, match="regular file"):
        list(read_pair_rows(path))
    with pytest.raises(InputError, match="regular file"):
        read_qrels(path, ["q"], ["g"])


def test_an_archive_is_refused(odd):
    path = odd.rename(odd.with_name("odd.zip"))
    with pytest.raises(InputError, match="no such file"):
        ImageLoader().load(f"{path}!/a.jpg")


def test_a_search_by_such_an_image_is_refused(odd, call):
    path = odd.parent / "offers.jsonl"
    path.write_text('{"id": "1", "title": "dress"}\n')
    code, _, err = call("search", path, "--model", "none", "--image", odd)
    assert code == 2
    assert "regular file" in err


def test_special_members_of_an_archive_are_no_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("pipe.jpg")
        info.external_attr = 0o010644 << 16
        archive.writestr(info, b"")
        archive.write(save_image(tmp_path / "good.png"), "good.png")
    loader = ImageLoader()
    with pytest.raises(InputError):
        loader.load(f"{tmp_path}/a.zip!/pipe.jpg")
    assert loader.load(f"{tmp_path}/a.zip!/good.png").size == (24, 24)
