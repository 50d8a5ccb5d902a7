"""AGCL from its formula alone: float64, one number at a time, gradients by hand. Shares no code with afmrl."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Options:
    temperature: float = 0.05
    weighting: str = "bm25"
    weight_positive: bool = True
    gain: float = 1.0
    scaling: str = "raw"
    rules: tuple = ()
    combine: str = "any"
    margin: float = 0.1
    agreement_min_shared: int = 2
    top_k_hardest: int | None = None
    directions: tuple = ("query_to_doc",)
    num_positives: int = 1


def words(attributes):
    return [word for value in attributes.values() for word in value.split()]


def bm25(query, document, corpus, k1=1.5, b=0.75):
    """BM25 of token lists: the Lucene variant, document frequencies of `corpus` (token lists)."""
    average = sum(len(other) for other in corpus) / len(corpus)
    total = 0.0
    for token in query:
        tf = document.count(token)
        if tf == 0:
            continue
        df = sum(token in other for other in corpus)
        idf = math.log(1 + (len(corpus) - df + 0.5) / (df + 0.5))
        total += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
    return total


def agree(left, right, min_shared):
    shared = [key for key in left if key in right]
    return len(shared) >= min_shared and all(left[key] == right[key] for key in shared)


def cosine(u, v):
    return float(sum(a * b for a, b in zip(u, v, strict=True)) / (np.linalg.norm(u) * np.linalg.norm(v)))


def agcl(columns, attributes, corpus, options, products=None, missing=(), frozen=None):
    """Loss, and its gradient with respect to each column.

    Args:
        columns: anchors, `num_positives` columns of positives, then curated negatives: arrays (B, D).
        attributes: for each column B dicts; an empty one where nothing is known.
        corpus: dicts, for document frequencies.
        products: for each column B product ids, "" unknown.
        missing: (column, row) of what is not there.
        frozen: for each column B embeddings of a frozen model, None unknown: what margin and closeness look at.
    """
    products = products or [[""] * len(column) for column in columns]
    corpus = [words(offer) for offer in corpus]
    gradients = [np.zeros(column.shape) for column in columns]
    positive_columns = list(range(1, 1 + options.num_positives))
    loss = 0.0
    for i in range(len(columns[0])):
        given = [p for p in positive_columns if (p, i) not in missing]
        tasks = []  # anchor's column, positive's, candidates'
        for direction in options.directions:
            for p in given:
                tasks.append(
                    (0, p, list(range(1, len(columns)))) if direction == "query_to_doc" else (p, 0, [0]),
                )
        for anchor, positive, candidates in tasks:
            share = 1 / (len(given) * len(columns[0]) * len(options.directions))
            places = [(c, j) for c in candidates for j in range(len(columns[0])) if (c, j) not in missing]
            others = {(p, i) for p in given} if anchor == 0 else set()
            loss += share * _term(
                (anchor, i),
                (positive, i),
                [place for place in places if place not in others - {(positive, i)}],
                [place for place in places if place in others - {(positive, i)}],
                (columns, attributes, products, frozen),
                corpus,
                options,
                (gradients, share),
            )
    return loss, gradients


def _term(anchor, positive, places, siblings, table, corpus, options, into):
    """−log of the positive's share among `places`; `siblings`, other positives, count in the row's maximum only."""
    columns, attributes, products, frozen = table
    gradients, share = into
    i = anchor[1]

    def look(of, place):
        return of[place[0]][place[1]]

    similarity = {p: cosine(look(columns, anchor), look(columns, p)) for p in places}
    judged = similarity
    if frozen is not None:
        judged = {
            p: math.nan
            if look(frozen, anchor) is None or look(frozen, p) is None
            else cosine(look(frozen, anchor), look(frozen, p))
            for p in places
        }
    ours = look(attributes, anchor)
    lexical = {p: bm25(words(ours), words(look(attributes, p)), corpus) for p in [*places, *siblings]}
    if options.scaling == "row":
        top = max(lexical.values())
        lexical = {p: value / top if top else 0.0 for p, value in lexical.items()}
    elif options.scaling == "corpus":
        top = max(bm25(offer, offer, corpus) for offer in corpus)
        lexical = {p: value / top if top else 0.0 for p, value in lexical.items()}

    weight = {}
    for p in places:
        if options.weighting == "bm25":
            weight[p] = math.exp(options.gain * (1 + math.tanh(lexical[p])))
            if p == positive and not options.weight_positive:
                weight[p] = 1.0
        elif options.weighting == "cosine":
            weight[p] = 1.0 if p == positive else math.exp(options.gain * similarity[p])
        else:
            weight[p] = 1.0
    term = {p: weight[p] * math.exp(similarity[p] / options.temperature) for p in places}

    left = []
    for p in places:
        if p == positive:
            continue
        calls = []
        for rule in options.rules:
            if rule == "margin":
                calls.append(judged[p] > judged[positive] + options.margin)
            elif rule == "closeness":
                calls.append(abs(judged[p] - judged[positive]) < options.margin)
            elif rule == "agreement":
                calls.append(agree(ours, look(attributes, p), options.agreement_min_shared))
            elif rule == "label":
                own = look(products, anchor)
                calls.append(own != "" and own == look(products, p))
        is_false = bool(calls) and (any(calls) if options.combine == "any" else all(calls))
        if p[1] == i or not is_false:  # p[1] == i: curated for this anchor
            left.append(p)
    if options.top_k_hardest is not None:
        in_batch = sorted((term[p] for p in left if p[1] != i), reverse=True)
        if len(in_batch) > options.top_k_hardest:
            bound = in_batch[options.top_k_hardest - 1]
            left = [p for p in left if p[1] == i or term[p] >= bound * (1 - 1e-9)]

    denominator = term[positive] + sum(term[p] for p in left)
    for p in [positive, *left]:
        slope = share * (term[p] / denominator - (p == positive)) / options.temperature
        u, v = look(columns, anchor), look(columns, p)
        gradients[anchor[0]][i] += slope * _cosine_gradient(u, v, similarity[p])
        gradients[p[0]][p[1]] += slope * _cosine_gradient(v, u, similarity[p])
    return -math.log(term[positive] / denominator)


def _cosine_gradient(u, v, similarity):
    """d cos(u, v) / d u."""
    unit = u / np.linalg.norm(u)
    return (v / np.linalg.norm(v) - similarity * unit) / np.linalg.norm(u)
