import json
import math
from dataclasses import replace

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.training import batch_plan
from afmrl.training.agcl import run_agcl
from afmrl.training.batch_plan import make_plan
from afmrl.training.config import AGCLStage, Augmentation, Hardware, Lora
from afmrl.training.pair_rows import PairInputs, pair_rows

COLORS = ("red", "blue", "white", "black")
CUTS = ("long", "short", "straight")


def catalog(num_products=12):
    """Two text offers of each product, told apart by their titles."""
    offers, attributes = [], []
    for product in range(num_products):
        pairs = {"color": COLORS[product % 4], "cut": CUTS[product % 3], "size": f"s{product % 5}", "series": "silk"}
        for side, word in enumerate(("dress", "gown")):
            title = f"{pairs['color']} {word} {pairs['cut']} {pairs['size']}"
            offers.append(Offer(id=f"{product}-{side}", title=title, product_id=f"p{product}"))
            attributes.append(KeyAttributes.of(pairs))
    return offers, attributes


@pytest.fixture(scope="module")
def text_base(tmp_path_factory):
    """A random BERT of two layers, with dropout: a resumed run must draw it as one that was not stopped."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    known = ["[PAD]", "[UNK]", "dress", "gown", "silk", *COLORS, *CUTS, *(f"s{size}" for size in range(5))]
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    bert = folder / "bert"
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(bert)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(known), **sizes)).save_pretrained(bert)
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(folder / "embedder"))
    return folder / "embedder"


class Killed(Exception):
    pass


def killing(step):
    from transformers import TrainerCallback

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == step:
                raise Killed

    return Kill()


LORA = Lora(r=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bfloat16", "mini_batch_size": 3},
        {"lora": LORA, "rules": ("agreement", "margin"), "margin_warmup_steps": 2, "learning_rate": 1e-2},
        {"lora": LORA, "precision": "bfloat16", "mini_batch_size": 4},
    ],
    ids=["plain", "bf16", "lora", "lora-bf16"],
)
def test_a_resumed_run_gives_the_losses_of_one_that_was_not_stopped(text_base, tmp_path, options):
    options = dict(options)
    offers, attributes = catalog()
    machine = {name: options.pop(name) for name in ("precision", "lora") if name in options}
    hardware = Hardware(save_steps=2, **machine)
    config = AGCLStage(max_steps=5, batch_size=8, warmup_steps=1, similar_group=4, temperature=0.05, **options)
    whole = run_agcl(config, text_base, offers, attributes, tmp_path / "whole", hardware=hardware)
    with pytest.raises(Killed):
        run_agcl(config, text_base, offers, attributes, tmp_path / "parts", hardware=hardware, callbacks=[killing(3)])
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-2"]
    parts = run_agcl(config, text_base, offers, attributes, tmp_path / "parts", hardware=hardware)

    assert [entry["step"] for entry in parts["history"]] == [1, 2, 3, 4, 5]
    losses = [[entry["loss"] for entry in run["history"]] for run in (whole, parts)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5 and all(math.isfinite(loss) and loss > 0 for loss in losses[0])
    for name in ("masked_share", "masked_share_agreement", "mean_offset", "offset_by_decile", "precision"):
        assert [e[name] for e in whole["history"]] == [e[name] for e in parts["history"]]
    assert json.loads((tmp_path / "parts" / "history.json").read_text(encoding="utf-8")) == parts["history"]

    from sentence_transformers import SentenceTransformer

    titles = [offer.title for offer in offers]
    base, *trained = (
        SentenceTransformer(str(path), device="cpu").encode(titles)
        for path in (text_base, tmp_path / "whole", tmp_path / "parts")
    )
    np.testing.assert_allclose(trained[0], trained[1], atol=1e-6)
    assert not np.allclose(trained[0], base, atol=1e-4)
    assert not list((tmp_path / "parts").rglob("adapter*")) and (tmp_path / "parts" / "model.safetensors").is_file()


def test_a_model_of_texts_is_refused_where_no_offer_has_a_title(text_base, tmp_path):
    offers, attributes = catalog()
    config = AGCLStage(max_steps=1, batch_size=8, similar_group=4, temperature=0.05)
    untitled = [replace(offer, title=" ", image="a.jpg") for offer in offers]
    with pytest.raises(InputError, match="reads text alone, and no offer has a title; train a model that reads images"):
        run_agcl(config, text_base, untitled, attributes, tmp_path / "refused")
    one = [*untitled[:-1], offers[-1]]  # one title is something to learn from
    assert len(run_agcl(config, text_base, one, attributes, tmp_path / "one")["history"]) == 1


@pytest.mark.parametrize("similar_group", [1, 4])
def test_many_products_are_drawn_without_comparing_all(monkeypatch, similar_group):
    offers, attributes = catalog(60)
    monkeypatch.setattr(batch_plan, "EXACT_PRODUCTS", 10)
    config = AGCLStage(max_steps=6, batch_size=16, similar_group=similar_group, agreement_min_shared=4)
    plan = make_plan(offers, attributes, config, AttributeBM25(attributes))
    again = make_plan(offers, attributes, config, AttributeBM25(attributes))
    assert np.array_equal(plan.anchors, again.anchors) and len(plan.anchors) == 96
    for step in range(6):
        drawn = slice(16 * step, 16 * step + 16)
        assert len(set((plan.anchors[drawn] // 2).tolist())) == 16
    assert (plan.anchors // 2 == plan.candidates // 2).all() and (plan.anchors != plan.candidates).all()
    shared = [
        len(set(attributes[left]) & set(attributes[right]))
        for left, right in zip(plan.anchors[:-1:similar_group], plan.anchors[1::similar_group], strict=False)
    ]
    assert (np.mean(shared) > 2.4) == (similar_group > 1)


def drawn_products(plan):
    return plan.anchors // 2


@pytest.mark.parametrize("crowd", ["family", "equal attributes", "hub", "none"])
def test_no_product_starves_however_large_its_family_and_however_many_are_its_equals(crowd):
    """130 products in batches of 32: after every whole round each has been drawn equally often."""
    offers, attributes = catalog(130)
    config = AGCLStage(max_steps=65, batch_size=32, similar_group=8)
    if crowd == "family":  # one of 100, ten of 2, ten alone
        values = [*["large"] * 200, *(f"small {place // 4}" for place in range(40)), *[""] * 20]
        offers = [replace(offer, extra={"style": value}) for offer, value in zip(offers, values, strict=True)]
        config = config.model_copy(update={"group_column": "style"})
    elif crowd == "equal attributes":
        attributes = [attributes[0]] * 120 + [KeyAttributes.of([])] * 140
    elif crowd == "hub":  # two that are like all others
        every = KeyAttributes.of([(f"key {place}", f"value {place}") for place in range(60)])
        attributes = [every] * 4 + [KeyAttributes.of([(f"key {i % 60}", f"value {i % 60}")]) for i in range(256)]
    else:
        config = config.model_copy(update={"similar_group": 1})
    plan = make_plan(offers, attributes, config, AttributeBM25(attributes))
    drawn = drawn_products(plan)
    counts = np.bincount(drawn, minlength=130)
    assert counts.sum() == 65 * 32 == 16 * 130
    assert set(counts) == {16}, "sixteen rounds of 130 products"
    assert set(np.bincount(drawn[: 4 * 130], minlength=130)) <= {3, 4, 5}
    for step in range(65):
        assert len(set(drawn[32 * step : 32 * step + 32])) == 32


@pytest.mark.parametrize(
    ("attributes_on", "anchors", "candidates"), [("none", 0, 0), ("query", 1, 0), ("gallery", 0, 1)]
)
def test_attributes_are_in_the_text_of_query_or_gallery_alone(attributes_on, anchors, candidates):
    offers, attributes = catalog(40)
    config = AGCLStage(max_steps=50, batch_size=32, attributes_on=attributes_on, attribute_dropout=0.25, one_sided=0.5)
    with_attributes = make_plan(offers, attributes, config, AttributeBM25(attributes)).with_attributes
    # by attribute_dropout alone: `one_sided` is for pairs that both have them
    assert with_attributes.mean(axis=0) == pytest.approx([0.75 * anchors, 0.75 * candidates], abs=0.04)


def test_fewer_products_than_a_batch_are_shared_evenly(monkeypatch):
    assert batch_plan.fitting_batch_size(64, 13) == 13
    monkeypatch.setattr(batch_plan, "world_size", lambda: 4)
    assert batch_plan.fitting_batch_size(64, 13) == 12
    assert batch_plan.fitting_batch_size(64, 70) == 64
    assert batch_plan.fitting_batch_size(64, 3) == 1  # refused where it is shared out


def test_a_share_of_the_batches_is_random_and_still_nobody_starves():
    offers, attributes = catalog(120)
    batches = {}
    for share in (1.0, 0.5, 0.0):
        config = AGCLStage(max_steps=60, batch_size=16, similar_group=4, similar_share=share)
        drawn = drawn_products(make_plan(offers, attributes, config, AttributeBM25(attributes))).reshape(-1, 16)
        assert set(np.bincount(drawn.ravel(), minlength=120)) == {8}
        # neighbors of equal color, cut and size
        alike = (drawn[:, :-1] % 60 == drawn[:, 1:] % 60).mean(axis=1)
        batches[share] = (alike > 0.05).mean()
    assert batches[1.0] > 0.9 > 0.75 > batches[0.5] > 0.25 > batches[0.0]


def test_those_who_stand_together_change_in_a_large_family():
    offers, attributes = catalog(100)
    offers = [replace(offer, extra={"style": "one" if place < 120 else ""}) for place, offer in enumerate(offers)]
    config = AGCLStage(max_steps=200, batch_size=20, similar_group=4, group_column="style")
    drawn = drawn_products(make_plan(offers, attributes, config, AttributeBM25(attributes))).reshape(-1, 20)
    first = [set(batch) - {0} for batch in drawn.tolist() if 0 in batch]
    assert len(set().union(*first) & set(range(60))) > 50, "every other member stands beside it in time"
    # members of the family stand side by side, those without a family do not
    side_by_side = np.mean((drawn[:, :-1] < 60) & (drawn[:, 1:] < 60))
    assert side_by_side > 0.45, "0.36 by chance"


def test_a_catalog_of_one_batch_is_drawn_whole_every_time():
    offers, attributes = catalog(12)
    plan = make_plan(offers, attributes, AGCLStage(max_steps=5, batch_size=64), AttributeBM25(attributes))
    assert [sorted(batch) for batch in drawn_products(plan).reshape(5, 12).tolist()] == [list(range(12))] * 5


def test_every_data_set_has_its_own_loss(text_base, tmp_path):
    from datasets import Dataset, DatasetDict
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss, LogLossStatistics

    offers, attributes = catalog()
    model = SentenceTransformer(str(text_base), device="cpu")
    rows = np.arange(len(offers)).reshape(-1, 2)
    columns = {
        "anchor": [offers[row].title for row in rows[:, 0]],
        "positive": [offers[row].title for row in rows[:, 1]],
    }
    labeled = {**columns, "label": rows.tolist()}
    losses = {
        "dresses": AttributeGuidedContrastiveLoss(model, attributes, rules=("agreement",), agreement_min_shared=2),
        "gowns": AttributeGuidedContrastiveLoss(model, attributes, weighting="cosine", rules=(), mini_batch_size=2),
        "plain": MultipleNegativesRankingLoss(model),
    }
    trainer = SentenceTransformerTrainer(
        model=model,
        args=Arguments(
            output_dir=str(tmp_path),
            max_steps=9,
            per_device_train_batch_size=4,
            logging_steps=9,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=DatasetDict(
            {name: Dataset.from_dict(columns if name == "plain" else labeled) for name in losses}
        ),
        loss=losses,
        callbacks=[LogLossStatistics(losses)],
    )
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["dresses_num_negatives"] == entry["gowns_num_negatives"] == 12
    assert "dresses_masked_share_agreement" in entry and "gowns_masked_share_agreement" not in entry
    assert "dresses_bm25_by_decile" in entry and "gowns_bm25_by_decile" not in entry
    assert not any(name.startswith("plain") for name in entry)


def inputs_of(config, offers, attributes, text_attributes):
    plain = {"augmentation": Augmentation(), "value_dropout": config.value_dropout, "seed": 0}
    return PairInputs(Embedder(None), offers, attributes, text_attributes, 8, **plain)


def texts_of(rows, column):
    return [str(make()) for make in rows[0 : len(rows)][column]]


def test_the_text_carries_other_attributes_than_those_that_draw_and_weigh():
    offers, attributes = catalog()
    written = [KeyAttributes.of({"color": "gray"})] * len(offers)
    config = AGCLStage(max_steps=2, batch_size=8, attribute_dropout=0.0, one_sided=0.0, value_dropout=0.0)
    plan = make_plan(offers, attributes, config, AttributeBM25(attributes))
    rows = {name: pair_rows(plan, inputs_of(config, offers, attributes, of)) for name, of in
            (("targets", attributes), ("written", written))}  # fmt: skip
    for column, drawn in (("anchor", plan.anchors), ("positive", plan.candidates)):
        assert all(
            str(attributes[row]) in text for row, text in zip(drawn, texts_of(rows["targets"], column), strict=True)
        )
        assert all("color: gray" in text and "series" not in text for text in texts_of(rows["written"], column))
    assert rows["written"][0:16]["label"] == list(zip(plan.anchors.tolist(), plan.candidates.tolist(), strict=True))


def test_what_is_left_out_of_a_text_is_the_same_whenever_it_is_made():
    offers, attributes = catalog()
    config = AGCLStage(max_steps=4, batch_size=8, attribute_dropout=0.5, value_dropout=0.5)
    plan = make_plan(offers, attributes, config, AttributeBM25(attributes))
    made = [texts_of(pair_rows(plan, inputs_of(config, offers, attributes, attributes)), "anchor") for _ in range(2)]
    assert made[0] == made[1]
    pairs = [text.count(": ") for text in made[0]]
    assert {0, 4} < set(pairs), "some without attributes, some with all, some with a part"


@pytest.mark.parametrize("which", ["none", "identifying"])
def test_the_text_of_training_carries_what_the_model_will_read_of_sellers(which):
    offers, attributes = catalog()
    offers = [replace(offer, attributes={"Marke": "Lune", "Preis": "5,99"}) for offer in offers]
    config = AGCLStage(max_steps=2, batch_size=8, seller_attributes=which)
    plan = make_plan(offers, attributes, config, AttributeBM25(attributes))
    embedder = Embedder(None, {"seller_attributes": which})
    inputs = PairInputs(
        embedder, offers, attributes, attributes, 8, augmentation=Augmentation(), value_dropout=0.0, seed=0
    )
    for column in ("anchor", "positive"):
        for text in texts_of(pair_rows(plan, inputs), column):
            assert ("\nlune" in text) == (which == "identifying") and "5,99" not in text


def test_a_trained_model_says_what_it_reads_of_sellers(text_base, tmp_path):
    offers, attributes = catalog()
    config = AGCLStage(max_steps=1, batch_size=8, seller_attributes="all")
    run_agcl(config, text_base, offers, attributes, tmp_path)
    assert Embedder.from_pretrained(tmp_path).seller_attributes == "all"
    assert Embedder.from_pretrained(tmp_path, seller_attributes="none").seller_attributes == "none"


@pytest.mark.slow
def test_the_text_changes_the_loss_and_not_the_weights(text_base, tmp_path):
    offers, attributes = catalog()
    written = [KeyAttributes.of({"color": "gray"})] * len(offers)
    config = AGCLStage(max_steps=2, batch_size=8, warmup_steps=0, attribute_dropout=0.0, one_sided=0.0)
    runs = [
        run_agcl(config, text_base, offers, guide, tmp_path / name, text_attributes=text)
        for name, guide, text in (("same", attributes, None), ("apart", attributes, written), ("all", written, None))
    ]
    weights = [[entry["mean_offset"] for entry in run["history"]] for run in runs]
    assert weights[0] == weights[1] != weights[2]
    losses = [[entry["loss"] for entry in run["history"]] for run in runs]
    assert losses[0] != losses[1] != losses[2]


def test_generated_text_without_what_was_generated_is_refused(text_base, tmp_path):
    offers, attributes = catalog()
    with pytest.raises(InputError, match="'generated' needs what the generator writes"):
        run_agcl(AGCLStage(text_attributes="generated"), text_base, offers, attributes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [{"reference": True}, {"margin_warmup_steps": 2}, {}])
def test_a_rule_of_similarities_trusts_the_base_or_waits(text_base, tmp_path, trusted):
    offers, attributes = catalog()
    config = AGCLStage(max_steps=3, batch_size=16, warmup_steps=0, rules=("closeness",), margin=0.1, **trusted)
    history = run_agcl(config, text_base, offers, attributes, tmp_path)["history"]
    masked = [entry["masked_share_closeness"] for entry in history]
    assert (masked[0] > 0, masked[2] > 0) == (trusted.get("margin_warmup_steps") is None, True)
    if trusted.get("reference"):
        # what the base says of the batches does not depend on what is learned meanwhile
        slow = config.model_copy(update={"learning_rate": 1e-9})
        again = run_agcl(slow, text_base, offers, attributes, tmp_path / "slow")["history"]
        assert [entry["masked_share_closeness"] for entry in again] == masked
