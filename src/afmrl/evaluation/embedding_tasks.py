"""Tasks of a catalog that are not retrieval: classification and clustering by category, duplicates among pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from afmrl.data.catalog import Catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import PAIRS_FILE, LabeledPair, read_pairs
from afmrl.data.splits import split_of
from afmrl.evaluation.pairs import PairsResult, evaluated_and_validation, score_pairs
from afmrl.evaluation.probing import ClusteringResult, ProbeResult, cluster_embeddings, linear_probe
from afmrl.evaluation.tasks import Impossible, SplitOffers, cluster_of
from afmrl.retrieval.score_matrix import DenseScores
from afmrl.retrieval.scorer import FloorScorer, Scorer
from afmrl.retrieval.scores import pair_scores

TRAIN = "train"


def classify_categories(
    scorer: Scorer, catalog: Catalog, split: SplitOffers, *, num_resamples: int = 2000
) -> ProbeResult | Impossible:
    """A linear probe of the category, trained on the split "train"."""
    name = "classification"
    if isinstance(scorer, FloorScorer):
        return Impossible(name, f"the floor {scorer.floor!r} has no embeddings")
    if split.name == TRAIN:
        return Impossible(name, "the split 'train' is what the probe is trained on; evaluate another one")
    train = _categorized(scorer, [offer for offer in catalog if split_of(offer) == TRAIN])
    test = _categorized(scorer, [offer for offer in split.offers if split_of(offer) != TRAIN])
    if not train:
        return Impossible(name, "no offer of the split 'train' has a category")
    if not test:
        return Impossible(name, f"no offer of the split {split.name!r} has a category")
    if len({_category(offer) for offer in train}) < 2:
        return Impossible(name, "one category")
    return linear_probe(
        scorer.embed(train, scorer.attributes(train)),
        [_category(offer) for offer in train],
        scorer.embed(test, scorer.attributes(test)),
        [_category(offer) for offer in test],
        [cluster_of(offer) for offer in test],
        num_resamples=num_resamples,
    )


def cluster_categories(
    scorer: Scorer, split: SplitOffers, *, num_resamples: int = 2000
) -> ClusteringResult | Impossible:
    """k-means of the split's offers, compared with their categories."""
    name = "clustering"
    if isinstance(scorer, FloorScorer):
        return Impossible(name, f"the floor {scorer.floor!r} has no embeddings")
    offers = _categorized(scorer, split.offers)
    labels = [_category(offer) for offer in offers]
    if not offers:
        return Impossible(name, f"no offer of the split {split.name!r} has a category")
    if len(set(labels)) < 2:
        return Impossible(name, "one category")
    if len(set(labels)) == len(labels):
        return Impossible(name, "every offer has a category of its own")
    embeddings = scorer.embed(offers, scorer.attributes(offers))
    if len(np.unique(embeddings, axis=0)) < len(set(labels)):
        return Impossible(name, "fewer different embeddings than categories")
    return cluster_embeddings(embeddings, labels, [cluster_of(offer) for offer in offers], num_resamples=num_resamples)


def read_labeled_pairs(catalog: Catalog, path: str | Path | None) -> list[LabeledPair] | Impossible:
    """The labeled pairs of a catalog: of a file, or of pairs.jsonl beside the catalog.

    Raises:
        InputError: a file that was given and cannot be used.
    """
    if path is None:
        path = Path(catalog.path).parent / PAIRS_FILE
        if not catalog.path or not path.is_file():
            return Impossible("pairs", f"no {PAIRS_FILE} beside the catalog, and no --pairs FILE")
    pairs = read_pairs(path, catalog.by_id, skipped_ids=catalog.skipped_ids)
    evaluated, _ = evaluated_and_validation(pairs)
    if len({pairs[row].same for row in evaluated}) < 2:
        return Impossible("pairs", "the pairs that are scored are all of one label")
    return pairs


def find_duplicates(
    scorer: Scorer, pairs: Sequence[LabeledPair], *, num_resamples: int = 2000
) -> PairsResult | Impossible:
    """Precision and recall of duplicates among labeled pairs."""
    if not any(scorer.can_read(pair.left) for pair in pairs) or not any(scorer.can_read(pair.right) for pair in pairs):
        return Impossible("pairs", f"the model reads {' and '.join(scorer.reads)} only, and the offers have none")
    evaluated, validation = evaluated_and_validation(pairs)
    if len({pairs[row].same for row in validation}) < 2:
        validation = []
    scores = _pair_scores(scorer, [pairs[row] for row in [*evaluated, *validation]])
    same = np.array([pairs[row].same for row in [*evaluated, *validation]], dtype=np.float64)
    count = len(evaluated)
    return score_pairs(
        scores[:count],
        same[:count],
        [cluster_of(pairs[row].left) for row in evaluated],
        validation=(scores[count:], same[count:]) if validation else None,
        num_resamples=num_resamples,
    )


def _pair_scores(scorer: Scorer, pairs: Sequence[LabeledPair]) -> np.ndarray:
    """(P,) score of each pair; a fused one as in the ranking of all right offers for the left one."""
    lefts = {pair.left.id: pair.left for pair in pairs}
    rights = {pair.right.id: pair.right for pair in pairs}
    rows = {name: row for row, name in enumerate(lefts)}
    columns = {name: row for row, name in enumerate(rights)}
    places = (
        np.array([rows[pair.left.id] for pair in pairs]),
        np.array([columns[pair.right.id] for pair in pairs]),
    )
    scores = scorer.scores(list(lefts.values()), list(rights.values()))
    if isinstance(scores, DenseScores):
        return pair_scores(scores.queries, scores.gallery, *places)
    found = np.empty(len(pairs), dtype=np.float32)
    for row in range(scores.num_queries):
        of_row = np.flatnonzero(places[0] == row)
        found[of_row] = scores.block(row, row + 1)[0, places[1][of_row]]
    return found


def _categorized(scorer: Scorer, offers: Sequence[Offer]) -> list[Offer]:
    """The offers that have a category and a part that the scorer reads."""
    return [offer for offer in offers if _category(offer) and scorer.can_read(offer)]


def _category(offer: Offer) -> str:
    return offer.category.strip()
