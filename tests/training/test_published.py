"""What a run publishes: the variant that is best on val, and of equals the one that needs least."""

from types import SimpleNamespace

import pytest

from afmrl.retrieval.fusion import FusionWeights
from afmrl.training import published
from afmrl.training.published import Variant, choose_variant

FUSED = FusionWeights(0.3)
BOTH, WITH_ATTRIBUTES, WITH_WORDS, ALONE = (
    Variant("both", FUSED), Variant("both"), Variant("none", FUSED), Variant("none"),
)  # fmt: skip


@pytest.fixture
def chosen(monkeypatch):
    """The choice where val measures these MRR."""

    def choose(mrr, queries=(0, 1)):
        run = SimpleNamespace(
            recipe=SimpleNamespace(agcl=SimpleNamespace(attributes_on="both"), evaluation=SimpleNamespace(fuse=True)),
            cit_generator="rar", paths={"rar": None}, splits={"val": SimpleNamespace(queries=queries)},
        )  # fmt: skip
        found = {
            variant: SimpleNamespace(metrics={"mrr": SimpleNamespace(mean=value)}) for variant, value in mrr.items()
        }
        monkeypatch.setattr(published, "_learn_weights", lambda run, side: FUSED)
        monkeypatch.setattr(published, "score_variants", lambda run, split, variants: found)
        monkeypatch.setattr(published, "_publish", lambda run, variant: None)
        return choose_variant(run)

    return choose


@pytest.mark.parametrize("best", [BOTH, WITH_ATTRIBUTES, WITH_WORDS, ALONE])
def test_the_best_on_val_is_published(chosen, best):
    mrr = dict.fromkeys((BOTH, WITH_ATTRIBUTES, WITH_WORDS, ALONE), 0.5) | {best: 0.6}
    assert chosen(mrr).variant == best


def test_of_equals_the_one_that_needs_least(chosen):
    mrr = {BOTH: 0.5, WITH_ATTRIBUTES: 0.5, WITH_WORDS: 0.5, ALONE: 0.5}
    assert chosen(mrr).variant == ALONE
    assert chosen(mrr | {ALONE: 0.4}).variant == WITH_WORDS  # a generator costs more than words
    assert chosen(mrr | {ALONE: 0.4, WITH_WORDS: 0.4}).variant == WITH_ATTRIBUTES


def test_without_val_nothing_chooses(chosen):
    choice = chosen({}, queries=())
    assert choice.variant == BOTH and choice.val_mrr == {}
