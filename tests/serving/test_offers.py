"""Our own routes: search, match, attributes, and offers that are put in, replaced and deleted."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from serving_shop import data_uri

from afmrl.index.address import open_index
from afmrl.matching.search import search
from conftest import save_image

pytest_plugins = ["serving_shop"]


def searched(client, **body):
    answer = client.post("/afmrl/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_search_by_an_image_is_that_of_the_command(client, shop_index, picture, tmp_path):
    found = searched(client, image=picture, k=5)
    hits = search(shop_index, image=tmp_path / "picture.png", k=5)
    assert [hit["id"] for hit in found["hits"]] == [hit.offer.id for hit in hits]


def test_filters_are_without_case_and_an_unknown_value_is_named(client):
    found = searched(client, text="red", where={"category": ["MUG"], "seller": ["anna"]})
    assert found["hits"] and {(hit["category"], hit["seller"]) for hit in found["hits"]} == {("mug", "anna")}
    assert searched(client, text="red", where={"seller": ["ann"]})["notes"] == [
        "no offer has the seller 'ann'; the nearest is 'anna'"
    ]


def test_the_same_product_as_an_offer_is_searched_without_the_offer(client):
    found = searched(client, offer_id="mug/24", k=20)["hits"]
    assert len(found) == 20 and "mug/24" not in {hit["id"] for hit in found}
    assert client.post("/afmrl/v1/search", json={"offer_id": "none"}).status_code == 404


def test_an_offer_of_the_index_and_a_text_are_not_asked_for_together(client):
    answer = client.post("/afmrl/v1/search", json={"offer_id": "mug/24", "text": "lamp"})
    assert answer.status_code == 400 and "give offer_id, or text and image" in answer.json()["error"]["message"]


def test_a_hit_tells_its_image_and_its_page_and_not_where_files_lie(client, shop_index):
    found = searched(client, text="mug red", where={"category": ["mug"]}, k=12)["hits"]
    assert str(shop_index.parent) not in json.dumps(found)
    by_id = {hit["id"]: hit for hit in found}
    assert by_id["mug/25"]["image"] is None
    shown = client.get(by_id["mug/26"]["image"])
    assert shown.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(shown.content)).size == (24, 24)
    assert client.get("/afmrl/v1/image", params={"id": "mug/25"}).status_code == 404


def test_a_generator_that_is_not_there_cannot_be_asked_for(client):
    answer = client.post("/afmrl/v1/search", json={"text": "red", "generator": True})
    assert answer.status_code == 400 and "start it with --generator" in answer.json()["error"]["message"]


def test_without_a_generator_rules_read_attributes_off_titles(client):
    answer = client.post("/afmrl/v1/attributes", json={"offers": [{"title": "Canon EOS 80D, black, 24 MP"}]}).json()
    assert answer["from"] == "rules" and answer["attributes"][0]["color"] == "black"


def test_an_offer_that_is_there_is_matched_and_another_color_is_not(client):
    offer = {"title": "Maison Lune dress, red, size m", "brand": "Maison Lune", "attributes": {"color": "red"}}
    found = client.post("/afmrl/v1/match", json={"offer": offer}).json()
    best = found["matches"][0]
    assert found["same"] == best["id"] and best["title"] == "Maison Lune dress, red, size m"
    assert found["probability"] == best["probability"] >= found["threshold"] and best["reasons"]["agree"]
    pink = {"title": "Maison Lune dress, pink, size m", "attributes": {"color": "pink"}}
    new = client.post("/afmrl/v1/match", json={"offer": pink}).json()
    assert new["same"] is None and all(not one["same"] for one in new["matches"])
    assert "color" in new["matches"][0]["reasons"]["veto"]


def test_a_match_names_the_group_of_an_earlier_run(served):
    client = served(groups={"dress/04": "g7"})
    offer = {"title": "Maison Lune dress, red, size m", "attributes": {"color": "red"}}
    assert client.post("/afmrl/v1/match", json={"offer": offer}).json()["group"] == "g7"


def test_offers_are_inserted_replaced_found_and_deleted(served, own_index, picture):
    client = served()
    new = {
        "id": "neu/1",
        "title": "purple velvet sofa",
        "image": picture,
        "category": "sofa",
        "link": "https://a.example/",
    }
    assert client.post("/afmrl/v1/offers", json={"offers": [new]}).json() == {
        "inserted": 1, "updated": 0, "unchanged": 0
    }  # fmt: skip
    assert client.post("/afmrl/v1/offers", json={"offers": [new]}).json()["unchanged"] == 1
    assert searched(client, text="purple velvet sofa", k=1)["hits"][0]["id"] == "neu/1"
    got = client.get("/afmrl/v1/offers", params={"id": ["neu/1", "gone"]}).json()
    assert got["missing"] == ["gone"] and got["offers"][0]["link"] == "https://a.example/"
    assert client.get(got["offers"][0]["image"]).status_code == 200
    changed = {**new, "title": "purple velvet armchair", "image": got["offers"][0]["image"]}
    assert client.post("/afmrl/v1/offers", json={"offers": [changed]}).json()["updated"] == 1
    with open_index(str(own_index)) as other:  # as another process sees it
        row = other.get(["neu/1"])
        assert row.offers[0].title == "purple velvet armchair" and row.offers[0].image
    deleted = client.request("DELETE", "/afmrl/v1/offers", json={"ids": ["neu/1", "gone"]}).json()
    assert deleted == {"deleted": 1, "missing": ["gone"]}
    assert client.get("/afmrl/v1/offers", params={"id": "neu/1"}).json()["offers"] == []


def test_an_offer_with_a_damaged_image_is_not_put_in_and_the_image_not_kept(served, own_index, tmp_path):
    damaged = save_image(tmp_path / "a.png", 3, (200, 200))
    damaged.write_bytes(damaged.read_bytes()[:-900])
    offer = {"id": "a", "title": "red mug", "image": data_uri(damaged)}
    assert served().post("/afmrl/v1/offers", json={"offers": [offer]}).status_code == 400
    with open_index(str(own_index)) as other:
        assert not len(other.get(["a"]))
    assert not (own_index / "images").exists() or not list((own_index / "images").iterdir())


def test_an_id_that_is_deleted_twice_at_once_counts_once(served):
    answer = served().request("DELETE", "/afmrl/v1/offers", json={"ids": ["mug/24", "mug/24", "gone", "gone"]})
    assert answer.json() == {"deleted": 1, "missing": ["gone"]}


def test_an_offer_that_is_put_in_is_cleaned_as_a_catalogs_row(served):
    client = served()
    offer = {"id": "a", "title": "S&uuml;&szlig;er <b>Becher</b>\x1b[2J", "attributes": {"Farbe": "<i>rot</i>"}}
    client.post("/afmrl/v1/offers", json={"offers": [offer]})
    found = client.get("/afmrl/v1/offers", params={"id": "a"}).json()["offers"][0]
    assert (found["title"], found["seller_attributes"]) == ("Süßer Becher [2J", {"Farbe": "rot"})


def test_an_offer_that_is_put_in_has_the_embedding_of_the_command(served, own_index, service):
    client = served()
    title = "Maison Lune dress, red, size s"
    client.post("/afmrl/v1/offers", json={"offers": [{"id": "twin", "title": title}]})
    with open_index(str(own_index)) as other:
        ours = other.get(["twin"]).embeddings[0]
    theirs = service.encoder.embedder.encode([{"title": title}])[0]
    assert ours == pytest.approx(theirs, abs=2e-3)  # float16


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        ([{"id": "a", "title": "x"}, {"id": "a", "title": "y"}], "offers: the id 'a' appears twice"),
        ([{"id": "a"}], "offers[0].title: is empty; give a text, an image, or both"),
        ([{"id": "", "title": "x"}], "offers.0.id: "),
        ([{"id": "a", "title": "x", "price": 3}], "offers.0.price: "),
        ([{"id": "a", "title": "x", "image": "/etc/passwd"}], "offers[0].image: "),
        ([], "offers: is empty"),
    ],
)
def test_offers_that_cannot_be_put_in_are_refused_whole(served, own_index, offers, message):
    answer = served().post(
        "/afmrl/v1/offers", json={"offers": [{"id": "fine", "title": "x"}, *offers] if offers else []}
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"].replace("[1]", "[0]").replace(".1.", ".0.").startswith(message)
    with open_index(str(own_index)) as other:
        assert not len(other.get(["fine"]))


def test_an_index_that_another_process_writes_to_is_a_conflict(served, own_index):
    client = served()
    with open_index(str(own_index)) as other, other.transaction():
        answer = client.post("/afmrl/v1/offers", json={"offers": [{"id": "a", "title": "x"}]})
    assert answer.status_code == 409 and answer.headers["retry-after"] == "5"


def test_requests_leave_no_files_behind(client, service, tmp_path):
    image = data_uri(save_image(tmp_path / "a.png", 5))
    searched(client, text="red", image=image)
    client.post("/v1/embeddings", json={"input": [{"image": image}, {"image": image}]})
    assert list(service.uploads.folder.iterdir()) == []
