"""Images that are addresses: fetched once, into one folder, by whichever command reads them."""

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import afmrl
from afmrl.bulk.images.cache import ImageCache
from afmrl.bulk.images.catalog import catalog_with_images
from afmrl.bulk.images.fetch import Fetcher
from afmrl.data.image_cache import cache_folder, cached_image
from afmrl.data.images import open_image
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError
from conftest import save_image

FETCH = ReadOptions(fetch=True)
GONE = ("o3", "o4")


class Shop:
    """A server of images on this machine; it counts what is asked of it."""

    def __init__(self, folder):
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                path = folder / self.path.lstrip("/")
                self.send_response(200 if path.is_file() else 404)
                self.send_header("Content-Type", "image/png")
                self.end_headers()
                if path.is_file():
                    self.wfile.write(path.read_bytes())

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("AFMRL_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("afmrl.bulk.images.cache.Fetcher", partial(Fetcher, allow_private=True, retries=0))
    for number in range(3):
        save_image(tmp_path / "web" / f"{number}.png", number)
    (tmp_path / "web" / "page.png").write_text("<html>")
    server = Shop(tmp_path / "web")
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def offers(tmp_path, shop):
    """Five offers, the image of one is gone, the page of another is none."""
    rows = [
        {"id": f"o{number}", "title": f"silk dress {number}", "image_link": f"{shop.url}/{name}.png", "product_id": "p"}
        for number, name in enumerate(("0", "1", "0", "gone", "page"))
    ]
    path = tmp_path / "offers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("AFMRL_IMAGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "afmrl" / "images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "afmrl" / "images"
    monkeypatch.setenv("AFMRL_IMAGE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_catalogs_images_are_fetched_once(shop, offers, tmp_path):
    catalog = catalog_with_images(offers, options=FETCH)
    assert [bool(offer.image) for offer in catalog] == [True, True, True, False, False]
    assert catalog.offers[0].image == f"{shop.url}/0.png"  # the offer still says where it is from
    assert open_image(catalog.offers[0].image).size == (24, 24)
    assert sorted(shop.asked) == ["/0.png", "/1.png", "/gone.png", "/page.png"]
    assert [(lost.id, lost.row, lost.lost) for lost in catalog.lost_images] == [("o3", 4, "image"), ("o4", 5, "image")]
    assert "HTTP 404" in catalog.lost_images[0].reason and "not an image" in catalog.lost_images[1].reason
    shop.asked.clear()
    again = catalog_with_images(offers, options=FETCH)
    assert again.offers == catalog.offers
    assert sorted(shop.asked) == ["/gone.png", "/page.png"]  # what failed is tried again
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(cached_image(f"{shop.url}/{name}.png") for name in "01")


def test_without_fetch_addresses_are_left_out_and_counted(shop, offers):
    catalog = catalog_with_images(offers)
    assert not any(offer.image for offer in catalog) and not shop.asked
    assert catalog.reading.addresses == 5 and "--fetch" in catalog.reading.line()
    with pytest.raises(InputError, match="was not fetched; --fetch fetches it"):
        open_image(f"{shop.url}/0.png")


def test_the_next_image_leads_and_a_row_that_has_nothing_else_is_skipped(shop, tmp_path):
    rows = [
        {"id": "a", "image": [f"{shop.url}/gone.png", f"{shop.url}/2.png"]},
        {"id": "b", "image": f"{shop.url}/gone.png"},
        {"id": "c", "image": [f"{shop.url}/gone.png", "web/1.png"]},
    ]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalog = catalog_with_images(tmp_path / "o.jsonl", options=FETCH)
    assert [(offer.id, offer.image) for offer in catalog] == [
        ("a", f"{shop.url}/2.png"), ("c", str(tmp_path / "web" / "1.png"))
    ]  # fmt: skip
    assert [(row.id, row.row, row.lost) for row in catalog.faults] == [
        ("a", 1, "image"), ("b", 2, "row"), ("c", 3, "image")
    ]  # fmt: skip
    with pytest.raises(InputError, match="HTTP 404"):
        catalog_with_images(tmp_path / "o.jsonl", options=FETCH, max_bad=0)


def test_a_folder_that_cannot_be_written_is_named(shop, offers, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFMRL_IMAGE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match=r"below: fetched images cannot be kept there .*AFMRL_IMAGE_CACHE"):
        catalog_with_images(offers, options=FETCH)
    with ImageCache() as cache:  # what needs no file goes on
        assert cache.fetch(f"{shop.url}/0.png")


def test_every_command_reads_the_images_that_one_of_them_fetched(call, shop, offers, tiny_model, tmp_path):
    split = tmp_path / "split.jsonl"
    rows = [json.loads(line) for line in offers.read_text().splitlines()]
    split.write_text("".join(json.dumps({**row, "split": "test"}) + "\n" for row in rows))
    embeddings, index = tmp_path / "e", tmp_path / "index"
    commands = [
        ("match", offers, "--out", tmp_path / "m"),
        ("match", offers, "--model", tiny_model, "--out", tmp_path / "mm"),
        ("evaluate", "--model", "color", "--catalog", split, "--out", tmp_path / "v"),
        ("evaluate", "--model", tiny_model, "--catalog", split, "--out", tmp_path / "v2"),
        ("search", offers, "--model", tiny_model, "--image", f"{shop.url}/1.png"),
        ("search", offers, "--model", tiny_model, "--queries", offers),
        ("embed", offers, "--model", tiny_model, "--out", embeddings),
        ("index", embeddings, "--out", index),
        ("search", index, "--queries", offers),
    ]
    for place, command in enumerate(commands):
        code, out, err = call(*command, "--fetch")
        assert code == 0, (command, out, err)
        assert set(shop.asked) <= ({"/0.png", "/1.png"} if not place else set()) | {"/gone.png", "/page.png"}, command
        shop.asked.clear()
    skipped = [json.loads(line) for line in (tmp_path / "m" / "skipped.jsonl").read_text().splitlines()]
    assert [(row["id"], row["lost"]) for row in skipped] == [("o3", "image"), ("o4", "image")]


def test_check_fetches_what_it_is_asked_to(call, shop, offers):
    code, out, err = call("check", offers, "--fetch")
    assert code == 0 and "images that cannot be read: 2" in out
    assert "2 images fetched" in err and "2 cannot be fetched: 1 × image: HTTP …, 1 × image: not an image" in err
    code, out, _ = call("check", offers)
    assert code == 0 and "images of 5 offers are addresses" in out


def test_images_that_were_fetched_count_as_images_on_the_disk_do(shop, offers, tmp_path):
    rows = [json.loads(line) for line in offers.read_text().splitlines()][:3]
    local = [{**row, "image_link": f"web/{row['image_link'][-5:]}"} for row in rows]
    found = []
    for name, of in (("fetched", rows), ("local", local)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in of))
        result = afmrl.match(path, options=FETCH)
        found.append([(pair.left.id, pair.right.id, pair.probability, pair.reasons.image) for pair in result.pairs])
    assert found[0] == found[1] and any(image is not None for *_, image in found[0])


def test_search_in_python_takes_an_address(shop, offers, tiny_model):
    address = f"{shop.url}/1.png"
    hits = afmrl.search(offers, image=address, model=tiny_model, options=FETCH)
    assert len(hits) == 5
    with pytest.raises(InputError, match="is an address; --fetch fetches it"):
        afmrl.search(offers, image=address, model=tiny_model)
