"""Which images of offers stay in the index's folder: those of offers that were put in, or that may have been."""

from __future__ import annotations

import pytest

from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.serving.batching import late
from afmrl.serving.kept_images import KeptImages
from afmrl.serving.limits import Limits
from afmrl.serving.refusal import Refusal

pytest_plugins = ["serving_shop"]


def kept(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def put(client, picture, **more):
    return client.post("/afmrl/v1/offers", json={"offers": [{"id": "a", "title": "x", "image": picture, **more}]})


def test_a_conflict_leaves_no_image(served, own_index, picture):
    client = served()
    with open_index(str(own_index)) as other, other.transaction():
        assert put(client, picture).status_code == 409
    assert kept(own_index / "images") == []
    assert put(client, picture).status_code == 200 and len(kept(own_index / "images")) == 1


def test_an_insert_that_is_late_leaves_no_image(served, own_index, picture):
    assert put(served(Limits(seconds=1e-9)), picture).status_code == 503
    assert kept(own_index / "images") == []


def test_an_offer_that_is_refused_takes_the_images_of_those_before_it_with_it(served, own_index, picture):
    first = {"id": "fine", "title": "x", "image": picture}
    answer = served().post("/afmrl/v1/offers", json={"offers": [first, {"id": "a"}]})
    assert answer.status_code == 400 and kept(own_index / "images") == []


def test_an_image_that_was_there_before_stays(served, own_index, picture):
    client = served()
    assert put(client, picture).status_code == 200
    with open_index(str(own_index)) as other, other.transaction():
        assert put(client, picture, id="b").status_code == 409
    assert len(kept(own_index / "images")) == 1


@pytest.mark.parametrize("error", [InputError("the connection broke"), OSError("no space is left")])
def test_an_unclear_commit_leaves_the_image(tmp_path, error):
    with pytest.raises(type(error)), KeptImages(tmp_path).keeping() as images:
        images.add(b"image")
        images.may_be_written = True
        raise error
    assert len(kept(tmp_path)) == 1


def test_what_fails_before_the_offers_are_written_leaves_no_image(tmp_path):
    with pytest.raises(InputError), KeptImages(tmp_path).keeping() as images:
        images.add(b"image")
        raise InputError("image: damaged")
    assert kept(tmp_path) == []


def test_an_image_that_another_request_keeps_stays_until_that_one_is_refused_too(tmp_path):
    both = KeptImages(tmp_path)
    with pytest.raises(Refusal), both.keeping() as second:
        with pytest.raises(Refusal), both.keeping() as first:
            assert first.add(b"image") == first.add(b"image") == second.add(b"image")
            raise late()
        assert len(kept(tmp_path)) == 1
        raise late()
    assert kept(tmp_path) == []


def test_an_image_that_another_request_has_put_in_stays(tmp_path):
    both = KeptImages(tmp_path)
    with pytest.raises(Refusal), both.keeping() as second:
        with both.keeping() as first:
            first.add(b"image")
            second.add(b"image")
        raise late()
    assert len(kept(tmp_path)) == 1
