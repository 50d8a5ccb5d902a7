"""The protocols of OpenAI, Cohere, Jina and TEI, asked by their own clients where there are some."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from serving_shop import data_uri

from afmrl.data.offer import Offer
from afmrl.matching.search import search
from conftest import save_image

pytest_plugins = ["serving_shop"]
TEXTS = ["red silk dress", "a mug", "navy coat, size m"]


@pytest.fixture(scope="module")
def openai_client(address):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def cohere_client(address):
    cohere = pytest.importorskip("cohere")
    return cohere.ClientV2(api_key="none", base_url=address)


def expected(service, texts):
    return service.encoder.embedder.encode([Offer(id="1", title=text) for text in texts])


def test_openai_embeds_as_floats_and_as_base64(openai_client, service):
    floats = openai_client.embeddings.create(model="afmrl", input=TEXTS, encoding_format="float")
    coded = openai_client.embeddings.create(model="afmrl", input=TEXTS)  # the SDK asks for base64
    assert [one.index for one in floats.data] == [0, 1, 2] and floats.usage.total_tokens > 3
    for found in (floats, coded):
        np.testing.assert_allclose([one.embedding for one in found.data], expected(service, TEXTS), atol=1e-5)


def test_openai_embeds_an_image_with_a_text(openai_client, service, picture, tmp_path):
    found = openai_client.embeddings.create(
        model="afmrl", input=[{"text": "red mug", "image": picture}, "red mug"], encoding_format="float"
    )
    both, text = (np.array(one.embedding) for one in found.data)
    whole = service.encoder.embedder.encode([{"text": "red mug", "image": str(tmp_path / "picture.png")}])
    np.testing.assert_allclose(both, whole[0], atol=1e-5)
    assert np.abs(both - text).max() > 1e-3


def test_messages_are_one_input_as_vllm_reads_them(openai_client, client, picture):
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "red mug"}]
    found = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": content}]}).json()
    same = client.post("/v1/embeddings", json={"input": {"text": "red mug", "image": picture}}).json()
    np.testing.assert_allclose(found["data"][0]["embedding"], same["data"][0]["embedding"], atol=1e-6)


def test_openai_names_its_mistakes(openai_client):
    import openai

    with pytest.raises(openai.NotFoundError, match="'gpt-4' is not served here; ask for 'afmrl'"):
        openai_client.embeddings.create(model="gpt-4", input="x")
    with pytest.raises(openai.BadRequestError, match="not trained for shorter embeddings"):
        openai_client.embeddings.create(model="afmrl", input="x", dimensions=8)
    with pytest.raises(openai.BadRequestError, match="numbers of tokens are not read"):
        openai_client.embeddings.create(model="afmrl", input=[[1, 2, 3]])
    with pytest.raises(openai.BadRequestError, match="is an address and would be read as words"):
        openai_client.embeddings.create(model="afmrl", input=["https://shop.example/a.jpg"])


def test_openai_lists_the_model_by_both_of_its_names(openai_client, service):
    assert {model.id for model in openai_client.models.list()} == set(service.model_names)


def test_cohere_embeds_in_every_type(cohere_client, service):
    types = ["float", "base64", "int8", "uint8", "binary", "ubinary"]
    found = cohere_client.embed(model="afmrl", input_type="search_query", texts=TEXTS, embedding_types=types).embeddings
    whole = expected(service, TEXTS)
    np.testing.assert_allclose(found.float_, whole, atol=1e-5)
    decoded = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in found.base64]
    np.testing.assert_allclose(decoded, whole, atol=1e-5)
    small = np.array(found.int8, dtype=np.float64)
    assert np.abs(small).max() == 127 and (np.array(found.uint8) - 128 == small).all()
    cosines = (small * whole).sum(axis=1) / np.linalg.norm(small, axis=1)
    assert cosines.min() > 0.999
    bits = np.unpackbits(np.array(found.ubinary, dtype=np.uint8), axis=1)
    assert (bits == (whole > 0)).all() and (np.array(found.binary) + 128 == found.ubinary).all()


def test_cohere_embeds_images_and_inputs_of_both(cohere_client, service, picture, tmp_path):
    path = str(tmp_path / "picture.png")
    found = cohere_client.embed(model="afmrl", input_type="image", images=[picture], embedding_types=["float"])
    np.testing.assert_allclose(found.embeddings.float_, service.encoder.embedder.encode([{"image": path}]), atol=1e-5)
    content = [{"type": "text", "text": "red mug"}, {"type": "image_url", "image_url": {"url": picture}}]
    found = cohere_client.embed(
        model="afmrl", input_type="search_document", inputs=[{"content": content}], embedding_types=["float"]
    )
    both = service.encoder.embedder.encode([{"text": "red mug", "image": path}])
    np.testing.assert_allclose(found.embeddings.float_, both, atol=1e-5)


def test_cohere_reranks_and_puts_what_is_vetoed_last(cohere_client):
    documents = ["Maison Lune dress, navy, size m", "a lamp", "Maison Lune dress, red, size m (new)"]
    found = cohere_client.rerank(model="afmrl", query="Maison Lune dress, red, size m", documents=documents, top_n=2)
    assert [one.index for one in found.results] == [2, 1]
    assert 1 >= found.results[0].relevance_score > 0.5 > found.results[1].relevance_score >= 0


def test_cohere_names_its_mistakes(cohere_client):
    from cohere.errors import BadRequestError, NotFoundError

    with pytest.raises(NotFoundError, match="is not served here"):
        cohere_client.rerank(model="rerank-v3", query="x", documents=["y"])
    with pytest.raises(BadRequestError, match="documents: is empty"):
        cohere_client.rerank(model="afmrl", query="x", documents=[])


def test_reranked_documents_come_with_reasons_and_on_request_with_their_text(client):
    body = {"query": "dress, red, size m", "documents": ["dress, navy, size m", {"text": "dress, red, size m"}]}
    found = client.post("/v1/rerank", json={**body, "return_documents": True}).json()
    best, worst = found["results"]
    assert best["document"] == {"text": "dress, red, size m"} and best["reasons"]["agree"]["color"]["left"] == "red"
    assert worst["reasons"]["veto"] == ["color"] and worst["why"] == "color: red | navy"


def test_documents_and_texts_are_not_reranked_together_and_documents_not_sent_back_unasked(client):
    body = {"query": "red", "documents": ["a red mug"]}
    assert "document" not in client.post("/v1/rerank", json=body).json()["results"][0]
    for path in ("/rerank", "/v1/rerank"):
        answer = client.post(path, json={**body, "texts": ["a red mug"]})
        message = "give one of documents (Cohere, Jina) and texts (TEI)"  # as each of the three reads it
        assert answer.status_code == 422
        assert answer.json() == {"message": message, "error": message, "error_type": "Validation"}


def test_images_without_text_are_reranked_by_their_embeddings(client, picture, tmp_path):
    other = data_uri(save_image(tmp_path / "other.png", 7))
    found = client.post(
        "/rerank", json={"query": {"image": picture}, "documents": [{"image": other}, {"image": picture}]}
    ).json()
    assert [one["index"] for one in found["results"]] == [1, 0]
    assert found["results"][0]["relevance_score"] == pytest.approx(1, abs=1e-4)


def test_tei_embeds_and_reranks(client, service):
    assert np.allclose(client.post("/embed", json={"inputs": TEXTS[0]}).json(), expected(service, TEXTS[:1]), atol=1e-5)
    body = {"query": "red mug", "texts": ["navy mug", "red mug"], "return_text": True, "raw_scores": False}
    found = client.post("/rerank", json=body).json()
    assert [(one["index"], one["text"]) for one in found] == [(1, "red mug"), (0, "navy mug")]
    raw = client.post("/rerank", json={**body, "raw_scores": True}).json()
    assert raw[0]["score"] == pytest.approx(np.log(found[0]["score"] / (1 - found[0]["score"])), rel=1e-3)


def test_tei_says_what_it_serves_and_names_mistakes_its_way(client, service):
    info = client.get("/info").json()
    assert info["dimension"] == service.index.dimension and info["rows"] == len(service.index)
    assert client.get("/health").status_code == 200
    refused = client.post("/embed", json={"inputs": []})
    assert refused.status_code == 400
    assert refused.json() == {"error": "inputs: is empty; give at least one", "error_type": "Validation"}


def test_a_search_finds_what_the_command_finds(client, shop_index):
    found = client.post("/afmrl/v1/search", json={"text": "red dress size m", "k": 7}).json()
    hits = search(shop_index, text="red dress size m", k=7)
    assert [hit["id"] for hit in found["hits"]] == [hit.offer.id for hit in hits]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-4)
    assert [hit["why"] for hit in found["hits"]] == [str(hit.reasons) for hit in hits]
    assert set(found["milliseconds"]) == {"attributes", "embedding", "search", "rerank"}
