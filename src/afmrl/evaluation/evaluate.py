"""Score a model: on the tasks of a catalog, or on queries, a gallery and their qrels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from afmrl.attributes.attributes_on import ATTRIBUTES_ON
from afmrl.attributes.seller_attributes import SellerAttributes, check_seller_attributes
from afmrl.bulk.images.catalog import catalog_with_images
from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.catalog import Catalog
from afmrl.data.offer import Offer
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError
from afmrl.evaluation.catalog_tasks import CatalogTasks
from afmrl.evaluation.graded_task import GradedTask
from afmrl.evaluation.protocols import PROTOCOLS
from afmrl.evaluation.result import EvaluationResult, write_evaluation
from afmrl.evaluation.tasks import EVERYTHING
from afmrl.matching.rerank import Reranker
from afmrl.retrieval.scorer import load_scorer

Offers = str | Path | Catalog | Sequence[Offer]
"""A catalog's file, or offers."""


def evaluate(
    model: str | Path,
    catalog: Offers | None = None,
    *,
    queries: Offers | None = None,
    gallery: Offers | None = None,
    qrels: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    split: str | None = None,
    gallery_splits: Sequence[str] | None = None,
    pairs: str | Path | None = None,
    min_grade: int | None = None,
    protocol: str = "standard",
    generator: str | Path | None = None,
    fuse: bool = False,
    rerank: bool = False,
    attributes_on: str | None = None,
    seller_attributes: SellerAttributes | None = None,
    slices: bool = True,
    robustness: bool = False,
    floors: bool = True,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
    num_resamples: int = 2000,
    progress: bool = False,
    out: str | Path | None = None,
) -> EvaluationResult:
    """Score a model on the tasks of a catalog, or on queries that search a gallery.

    Give `catalog`, whose columns `split`, `role`, `product_id` and `category` say what its tasks are; or `queries`,
    `gallery` and `qrels` together. A task that the catalog or the model does not allow is listed in the result with
    the reason.

    A query is never a hit of itself. Queries without a match in the gallery are counted but stay out of the means (of
    the protocol "standard"). Intervals: bootstrap over queries, drawn together by family (columns `family_id`,
    `style_id`, `family`) or `product_id` where they are known.

    Args:
        model: an embedder's folder, any sentence-transformers model, or a floor without learning ("tfidf", "bm25",
            "color", "tfidf+color").
        catalog, queries, gallery: a file, or offers.
        qrels: lines of query id, gallery id, grade, separated by tabs.
        tasks: of the catalog: names of `afmrl.evaluation.tasks.TASKS`; None: all that the data allows.
        split: of the catalog: whose offers are evaluated; None: "test", or "val" without it, or all.
        gallery_splits: of the catalog: whose gallery offers are searched besides the split's own; None: "gallery".
        pairs: of the catalog: labeled pairs; None: pairs.jsonl beside its file, where there is one.
        min_grade: of the qrels: grade from which a pair is a match; None: the highest present. NDCG gains by every
            grade above 0.
        protocol: "standard", or "m5product", the metrics of M5Product's release.
        generator: writes key attributes that are embedded with the text.
        fuse: add BM25 and the images' colors, with the weights that the model learned (fusion.json beside it).
        rerank: order the best 50 hits of each query by the pair model of `afmrl match`, those with a veto behind all
            others, as `afmrl search` does; not of the task "coarse".
        attributes_on: "query", "gallery", "both" or "none"; None: what the model was trained for, "query" if it does
            not say.
        seller_attributes: which of the sellers' attributes are read: "none", "identifying" or "all"; None: those that
            the model was trained with. Choose "none" where a catalog's attributes are labels.
        slices: metrics by category, sibling, missing part and number of attributes.
        robustness: also score perturbed queries, of the first task.
        floors: compare the first retrieval task with floors, for a verdict; left out where the catalog is too large.
        k: hits kept of each query.
        max_bad: share of a file's rows that may be skipped as unreadable.
        options: of the files: columns, delimiter and encoding, where they do not say them themselves;
            `fetch` fetches images that are addresses.
        out: folder for metrics.json (the same bytes for the same inputs), queries.jsonl, hits.jsonl (hits-TASK.jsonl
            of several tasks), and skipped.jsonl where rows were skipped; None: nothing is written.

    Raises:
        InputError: options that do not go together; files or models that cannot be used; not one task is possible.
    """
    _check_options(
        catalog is not None,
        of_catalog={"--task": tasks, "--split": split, "--gallery-splits": gallery_splits, "--pairs": pairs},
        of_qrels={"--queries": queries, "--gallery": gallery, "--qrels": qrels, "--min-grade": min_grade},
    )
    if attributes_on not in (None, *ATTRIBUTES_ON):
        raise InputError(f"attributes_on {attributes_on!r}: one of {', '.join(ATTRIBUTES_ON)}")
    check_seller_attributes(seller_attributes)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: one of {', '.join(PROTOCOLS)}")
    if k < 1:
        raise InputError(f"k={k}: at least one hit a query")

    # everything that can be wrong with the data is said before the models load
    work: CatalogTasks | GradedTask
    if catalog is not None:
        work = CatalogTasks(
            catalog_with_images(catalog, max_bad=max_bad, options=options, progress=progress),
            tasks=tasks or (EVERYTHING,),
            split=split,
            gallery_splits=gallery_splits or (),
            pairs=pairs,
        )
    elif queries is not None and gallery is not None and qrels is not None:
        work = GradedTask(
            catalog_with_images(queries, max_bad=max_bad, options=options, progress=progress),
            catalog_with_images(gallery, max_bad=max_bad, options=options, progress=progress),
            qrels,
            min_grade=min_grade,
        )
    else:
        raise InputError("evaluate: give --catalog FILE, or --queries, --gallery and --qrels together")
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
    scorer = load_scorer(
        model,
        generator=generator,
        fuse=fuse,
        attributes_on=attributes_on,
        seller_attributes=seller_attributes,
        batch_size=batch_size,
        progress=progress,
    )
    result = work.evaluate(
        scorer,
        model=str(model),
        protocol=protocol,
        k=k,
        slices=slices,
        robustness=robustness,
        floors=floors,
        num_resamples=num_resamples,
        reranker=Reranker(seller_attributes=seller_attributes != "none") if rerank else None,
    )
    if out is not None:
        write_evaluation(result, out)
    return result


def _check_options(has_catalog: bool, *, of_catalog: Mapping[str, object], of_qrels: Mapping[str, object]) -> None:
    other = of_qrels if has_catalog else of_catalog
    misplaced = [name for name, value in other.items() if value is not None]
    if misplaced and has_catalog:
        raise InputError(
            f"{misplaced[0]} does not go with --catalog; the catalog's column `role` says which offers are queries"
        )
    if misplaced:
        raise InputError(f"{misplaced[0]} needs --catalog FILE")
