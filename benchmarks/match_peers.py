"""dedupe and splink on the sets of `match.py`, with the same labels where they take labels."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from match_sets import LabeledSet
from match_task import Task, best_f1_threshold, union_find


def measure(of: LabeledSet, task: Task) -> dict[str, Any]:
    """Both peers; where one cannot run, its error."""
    found: dict[str, Any] = {}
    for name, peer in (("dedupe 3.0.3", _dedupe), ("splink 5.0.0", _splink)):
        try:
            found[name] = peer(of, task)
        except Exception as error:  # whatever a peer raises is its result
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    return found


def _records(of: LabeledSet) -> dict[str, dict[str, str | None]]:
    """What both get: title, words of the title that hold digits, color and brand as extracted."""
    from afmrl.attributes.extractor import AttributeExtractor

    extractor = AttributeExtractor.learn(of.table.offers)
    records = {}
    for offer in of.table.offers:
        facts = extractor.extract(offer).as_dict()
        codes = " ".join(sorted(word for word in re.findall(r"\w+", offer.title.lower()) if re.search(r"\d", word)))
        records[offer.id] = {
            "title": re.sub(r"\W+", " ", offer.title.lower()).strip() or None,
            "codes": codes or None,
            "model": facts.get("model"),
            "color": facts.get("color"),
            "brand": facts.get("brand"),
        }
    return records


def _dedupe(of: LabeledSet, task: Task) -> dict[str, Any]:
    import dedupe
    from dedupe.serializer import write_training

    _mend_dedupe()
    records = _records(of)
    fields = [
        dedupe.variables.Text("title"),
        dedupe.variables.Text("codes", has_missing=True),
        dedupe.variables.Exact("color", has_missing=True),
        dedupe.variables.String("brand", has_missing=True),
        dedupe.variables.String("model", has_missing=True),
    ]
    ids = [offer.id for offer in of.table.offers]
    rows = task.by_product
    train = np.flatnonzero(rows.split == "train")[:4000]
    labeled: dict[str, list[Any]] = {"match": [], "distinct": []}
    for place in train:
        pair = (records[ids[rows.left[place]]], records[ids[rows.right[place]]])
        labeled["match" if rows.same[place] else "distinct"].append(pair)
    model = dedupe.Dedupe(fields, num_cores=1)
    # dedupe draws from the global generator
    np.random.seed(0)  # noqa: NPY002
    file = io.StringIO()
    write_training(labeled, file)
    file.seek(0)
    model.prepare_training(records, training_file=file, sample_size=1500)
    model.train(recall=0.95)

    def scores(where: np.ndarray) -> np.ndarray:
        pairs = [(records[ids[a]], records[ids[b]]) for a, b in zip(rows.left[where], rows.right[where], strict=True)]
        return np.asarray(model.classifier.predict_proba(model.data_model.distances(pairs)))[:, -1].astype(np.float64)

    held = np.flatnonzero(rows.split == "validation")
    threshold = best_f1_threshold(scores(held), rows.same[held])
    groups = np.arange(len(ids))
    row = {identifier: place for place, identifier in enumerate(ids)}
    for members, _ in model.partition(records, threshold):
        places = [row[member] for member in members]
        groups[places] = min(places)
    return {**task.pairs(scores(np.arange(len(rows.left)))), **task.bcubed(groups)}


class _ByValue:
    """What dedupe asks of a BTrees bucket: its pairs of at least a value, by falling value."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def byValue(self, least: float) -> list[tuple[float, int]]:
        """As documented by BTrees: the values are divided by the least one."""
        found = [(value / least if least > 0 else value, key) for key, value in self._of.items() if value >= least]
        return sorted(found, reverse=True)


def _mend_dedupe() -> None:
    """BTrees of this installation lacks `byValue`, which dedupe's index predicates call, or dedupe would not run."""
    import dedupe.canopy_index as canopy
    from zope.index.text.setops import mass_weightedUnion

    canopy.mass_weightedUnion = lambda weighed: _ByValue(mass_weightedUnion(weighed))


def _splink(of: LabeledSet, task: Task) -> dict[str, Any]:
    import pandas as pd
    import splink.comparison_library as compare
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    records = _records(of)
    frame = pd.DataFrame([{"unique_id": key, **record} for key, record in records.items()])
    words = frame["title"].fillna("").str.split()
    counts = words.explode().value_counts()
    for place in range(3):  # the three rarest words: what to block on
        rare = words.map(lambda of_title: sorted(set(of_title), key=lambda word: (counts[word], word)))
        frame[f"rare{place}"] = rare.map(lambda found, place=place: found[place] if len(found) > place else None)
    frame["tokens"] = words.map(lambda of_title: sorted(set(of_title)))
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[
            compare.JaroWinklerAtThresholds("title", [0.95, 0.88, 0.8]),
            compare.ArrayIntersectAtSizes("tokens", [6, 4, 3, 2, 1]),
            compare.ExactMatch("codes"),
            compare.LevenshteinAtThresholds("model", [1]),
            compare.ExactMatch("color"),
            compare.ExactMatch("brand"),
        ],
        blocking_rules_to_generate_predictions=[
            *(block_on(f"rare{place}") for place in range(3)), block_on("model"), block_on("codes"), block_on("title"),
        ],
    )  # fmt: skip
    linker = Linker(DuckDBAPI().register(frame), settings)
    linker.training.estimate_probability_two_random_records_match([block_on("title")], recall=0.3)
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=0)
    linker.training.estimate_parameters_using_expectation_maximisation(block_on("rare0"))
    if frame["codes"].duplicated().any() and frame["codes"].nunique() > 10:
        linker.training.estimate_parameters_using_expectation_maximisation(block_on("codes"))
    found = linker.inference.predict().as_pandas_dataframe()
    row = of.rows
    left = found["unique_id_l"].map(row).to_numpy()
    right = found["unique_id_r"].map(row).to_numpy()
    weights = found["match_weight"].to_numpy(dtype=np.float64)
    known = {(min(a, b), max(a, b)): w for a, b, w in zip(left.tolist(), right.tolist(), weights.tolist(), strict=True)}
    rows = task.by_product
    scores = np.array(
        [known.get((min(a, b), max(a, b)), -99.0) for a, b in zip(rows.left.tolist(), rows.right.tolist(), strict=True)]
    )
    held = rows.split == "validation"
    threshold = best_f1_threshold(scores[held], rows.same[held])
    return {**task.pairs(scores), **task.bcubed(union_find(left, right, weights >= threshold, len(row)))}
