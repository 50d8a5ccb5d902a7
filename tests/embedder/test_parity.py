"""Golden vectors: the embeddings of 16 offers beside a model, and whether it gives them here."""

import json
import shutil

import numpy as np
import pytest
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import chat_server
from afmrl.bulk.fingerprints import model_fingerprint
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.parity.golden import GOLDEN_FILE, read_golden, write_golden
from afmrl.embedder.parity.offers import golden_offers, list_fingerprint, read_offers


@pytest.fixture
def model(tiny_model, tmp_path):
    """A folder of the tiny model as a run publishes it, without golden vectors."""
    folder = tmp_path / "embedder"
    Embedder.from_pretrained(tiny_model, device="cpu").save(folder)
    return folder


@pytest.fixture
def text_model(tmp_path):
    """A BERT of random weights with the mean of its tokens, which reads texts alone."""
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = [chr(code) for code in range(33, 127)]
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain = tmp_path / "bert"
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **marks).save_pretrained(plain)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(plain)
    prompt = {"prompts": {"offer": "an offer of: "}, "default_prompt_name": "offer"}
    SentenceTransformer(str(plain), device="cpu", **prompt).save_pretrained(str(tmp_path / "text"))
    return tmp_path / "text"


def test_the_list_has_16_offers_of_every_kind_and_none_twice():
    offers = golden_offers()
    kinds = {one.kind for one in offers}
    assert len(offers) == 16 and kinds == {"text", "image", "both", "long", "Chinese", "attributes"}
    assert len({one.offer.title for one in offers if one.offer.title}) == sum(bool(one.offer.title) for one in offers)
    assert len({one.image.tobytes() for one in offers if one.image}) == sum(bool(one.image) for one in offers)


def test_the_list_is_the_one_that_files_were_written_with():
    """Another list, or another pixel, makes every file that is out there useless: raise FORMAT knowingly."""
    assert list_fingerprint() == "1f5c01cda1c1f318bf561673a1e13875"


def test_a_model_without_golden_vectors_says_how_to_write_them(call, model):
    code, out, err = call("parity", model)
    assert code == 2 and not out
    assert f"has no golden vectors ({GOLDEN_FILE}); `afmrl parity {model} --write` writes them" in err


def test_written_vectors_agree_here_and_leave_the_model_what_it_was(call, model):
    from sentence_transformers import SentenceTransformer

    before = model_fingerprint(model)
    code, out, _ = call("parity", model, "--write")
    assert code == 0 and f"{GOLDEN_FILE}: golden vectors of 16 offers" in out
    assert (model / GOLDEN_FILE).stat().st_size < 20_000
    assert model_fingerprint(model) == before, "an index made with the model stays usable"
    code, out, _ = call("parity", model)
    assert code == 0 and "16 of 16 agree here (cosine at least 0.9999)" in out and "transformers" in out
    for one in golden_offers():
        assert one.offer.id in out
    plain = SentenceTransformer(str(model), device="cpu").encode(["dress"], normalize_embeddings=True)[0]
    np.testing.assert_allclose(plain, read_golden(model).embeddings["word"], atol=1e-5)
    code, _, err = call("parity", model, "--write")
    assert code == 2 and "is there already" in err


def test_json_has_each_offer_and_the_versions_then_and_now(call, model):
    write_golden(Embedder.from_pretrained(model, device="cpu"), model)
    code, out, _ = call("parity", model, "--json")
    found = json.loads(out)
    assert code == 0 and found["agrees"] and len(found["golden"]["offers"]) == 16
    assert found["golden"]["then"]["torch"] == found["golden"]["now"]["torch"]
    assert all(one["cosine"] > 0.9999 for one in found["golden"]["offers"])


def test_what_is_no_model_is_told_first(call, tmp_path):
    for folder, words in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "does not load")):
        code, _, err = call("parity", folder)
        assert code == 2 and words in err and "Traceback" not in err


def test_other_weights_differ(call, model):
    embedder = Embedder.from_pretrained(model, device="cpu")
    write_golden(embedder, model)
    embedder.model[0].model.get_input_embeddings().weight.data += 0.05
    shutil.copy(model / GOLDEN_FILE, model.parent)
    embedder.save(model)
    shutil.copy(model.parent / GOLDEN_FILE, model)
    code, out, _ = call("parity", model)
    assert code == 1 and "differs" in out and "16 of 16 agree" not in out


def test_only_images_differ_where_the_processor_does(call, model):
    write_golden(Embedder.from_pretrained(model, device="cpu"), model)
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path := model / name).is_file():
            path.write_text(path.read_text().replace("0.7", "0.5"))
    code, out, _ = call("parity", model, "--json")
    offers = json.loads(out)["golden"]["offers"]
    with_image = {one.offer.id for one in golden_offers() if one.image}
    assert code == 1 and {one["id"] for one in offers if not one["agrees"]} == with_image


def test_in_16_bits_the_bound_is_wider(call, model):
    write_golden(Embedder.from_pretrained(model, device="cpu"), model)
    code, out, _ = call("parity", model, "--dtype", "bfloat16", "--json")
    found = json.loads(out)["golden"]
    assert (found["least_cosine"], found["now"]["dtype"], found["then"]["dtype"]) == (0.999, "bfloat16", "float32")
    assert code == 0, [one["cosine"] for one in found["offers"]]
    assert min(one["cosine"] for one in found["offers"]) < 0.99999


def test_a_text_model_is_compared_without_images_and_that_is_said(call, text_model):
    code, out, _ = call("parity", text_model, "--write")
    assert code == 0 and "golden vectors of 7 offers" in out
    code, out, _ = call("parity", text_model)
    assert code == 0 and "7 of 7 agree here" in out
    assert "Left out, since the model reads no images: square, wide, odd, both" in out


def asked(call, text_model, **options):
    """Exit code, and why offers differ on a server of texts that encodes by `options` and answers from `turn` on."""
    turn = options.pop("turn", 0)
    served = Embedder.from_pretrained(text_model, device="cpu").model
    served.max_seq_length = options.pop("limit", served.max_seq_length)

    def answer(body, _):
        rows = np.roll(served.encode(body["input"], normalize_embeddings=True, **options), turn, axis=0)
        return 200, {}, {"data": [{"embedding": row.tolist()} for row in rows]}

    with chat_server.serve(answer) as (url, seen):
        code, out, err = call("parity", text_model, "--server", url, "--json")
    assert [len(one["body"]["input"]) for one in seen] == [7], err
    return code, {one["why"] for one in json.loads(out)["server"]["offers"] if not one["agrees"]}


def test_a_text_model_is_asked_for_texts(call, text_model):
    assert asked(call, text_model) == (0, set())


def test_a_prompt_that_the_server_leaves_out(call, text_model):
    assert asked(call, text_model, prompt="") == (1, {"the prompt 'an offer of: ' is missing"})


def test_texts_that_the_server_cuts(call, text_model):
    assert asked(call, text_model, limit=64) == (1, {"what is longer than 64 tokens is cut"})


def test_texts_in_another_order(call, text_model):
    code, why = asked(call, text_model, turn=1)
    assert code == 1 and len(why) == 7 and all(reason.endswith("the order is another") for reason in why)


@pytest.mark.slow
def test_a_run_keeps_golden_vectors_that_check_knows_of(call, quickstart):
    code, out, _ = call("check", quickstart)
    assert code == 0 and "embedder/parity.json" in out
    code, out, _ = call("parity", quickstart / "embedder")
    assert code == 0 and "16 of 16 agree here" in out


@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("float32", "float16")]
)
def test_a_damaged_file_is_told(call, model, damage):
    write_golden(Embedder.from_pretrained(model, device="cpu"), model)
    path = model / GOLDEN_FILE
    path.write_text(damage(path.read_text()))
    code, _, err = call("parity", model)
    assert code == 2 and f"{path}: cannot be read" in err and "Traceback" not in err


def test_an_offer_for_which_there_is_no_room_is_left_out(model):
    read, left_out = read_offers(Embedder.from_pretrained(model, device="cpu", max_seq_length=14))
    assert left_out and all("leaves no token" in why for why in left_out.values())
    assert len(read) + len(left_out) == 16
