"""A catalog as a task in MTEB's own form: its models run on your offers, and a trained embedder runs in MTEB.

Needs the extra `mteb`. MTEB's rules differ from this project's in three points: it takes the 1,000 best hits first and
removes a query's own id after that; equal scores are ordered by falling id; its "recall" is the share of the relevant
offers that were found, and what papers on this task call Recall@k is its "hit rate".
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.data.roles import role_of
from afmrl.data.splits import split_of
from afmrl.errors import InputError
from afmrl.files import content_hash

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

Reads = Literal["text", "image", "fused"]
"""What is read of an offer: its text, its image, or both."""
CODES: dict[str, str] = {"text": "t", "image": "i", "fused": "it"}  # MTEB's names of categories: "t2t", "i2it", …
MODALITIES: dict[str, tuple[str, ...]] = {"text": ("text",), "image": ("image",), "fused": ("image", "text")}


def catalog_task(
    catalog: str | Path | Sequence[Offer],
    *,
    name: str = "CatalogRetrieval",
    split: str = "test",
    gallery_splits: Sequence[str] | None = None,
    queries_read: Reads = "text",
    gallery_reads: Reads = "text",
    description: bool = False,
    languages: Sequence[str] = ("eng-Latn",),
    main_score: str = "hit_rate_at_1",
    max_bad: float = MAX_BAD,
) -> AbsTaskRetrieval:
    """Same-product retrieval within a catalog, for `mteb.evaluate`.

    Queries are the offers of `split` with the role "query" or "both", or without a role; the gallery those with the
    role "gallery" or "both", or without one. Relevant are the gallery offers with the query's `product_id`, itself
    excepted; queries without any are left out. Text is rendered as for the embedder: title, and description if asked.

    Args:
        catalog: a file, or offers.
        name: of the task in MTEB's tables.
        split: column `split` of the queries; "": all offers.
        gallery_splits: splits of the gallery; None: that of the queries.
        queries_read, gallery_reads: "text", "image" or "fused". Images need both sides' offers to have one.
        languages: MTEB's codes.

    Raises:
        InputError: mteb is not installed, no queries, no matches, or offers without what is to be read.
    """
    retrieval, metadata = _mteb_classes()
    if not isinstance(catalog, Sequence) or isinstance(catalog, str):
        catalog = read_catalog(catalog, max_bad=max_bad).offers
    if unknown := {queries_read, gallery_reads} - set(get_args(Reads)):
        raise InputError(f"mteb task: {sorted(unknown)[0]!r}: one of {', '.join(get_args(Reads))}")
    splits = (split,) if gallery_splits is None else tuple(gallery_splits)
    queries = [o for o in catalog if _has_role(o, "query") and (not split or split_of(o) == split)]
    gallery = [o for o in catalog if _has_role(o, "gallery") and (not any(splits) or split_of(o) in splits)]
    matches = _matches(queries, gallery)
    queries = [offer for offer in queries if offer.id in matches]
    if not queries:
        raise InputError(
            f"mteb task {name}: no query of the split {split!r} has a gallery offer of its product; the columns split, "
            "role and product_id say which are which"
        )
    rows = {
        "queries": _rows(queries, queries_read, description, "query"),
        "corpus": _rows(gallery, gallery_reads, description, "gallery offer"),
    }

    class CatalogRetrieval(retrieval):  # type: ignore[misc, valid-type]
        """The task; its data is the catalog's, nothing is fetched."""

        ignore_identical_ids = True
        data_loaded: bool = False

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            """Hand the offers over as MTEB's data set of one split."""
            if not self.data_loaded:
                self.dataset = {"default": {"test": _retrieval_split(rows, matches)}}
                self.data_loaded = True

    CatalogRetrieval.metadata = metadata(
        dataset={"path": name, "revision": _revision(rows, matches)},
        name=name,
        description=f"{len(queries)} offers search their products' other offers among {len(gallery)}.",
        type="Retrieval" if {queries_read, gallery_reads} == {"text"} else "Any2AnyRetrieval",
        category=f"{CODES[queries_read]}2{CODES[gallery_reads]}",
        modalities=sorted({*MODALITIES[queries_read], *MODALITIES[gallery_reads]}),
        eval_splits=["test"],
        eval_langs=list(languages),
        main_score=main_score,
        is_public=True,  # nothing to log in to
    )
    return CatalogRetrieval()


def mteb_model(model: str | Path) -> SentenceTransformerEncoderWrapper:
    """A trained embedder's folder, or any sentence-transformers model, in MTEB's wrapper, with what it can read.

    MTEB alone takes every such model for one of text.

    Raises:
        InputError: mteb is not installed, or the model does not load.
    """
    _mteb_classes()
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    from afmrl.embedder.embedder import Embedder

    sentence_transformer = Embedder.from_pretrained(model).model
    wrapper = SentenceTransformerEncoderWrapper(sentence_transformer)
    reads = [m for m in ("text", "image") if m in getattr(sentence_transformer, "modalities", ["text"])]
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update={"modalities": reads})
    return wrapper


def run_in_mteb(model: str | Path, task: AbsTaskRetrieval, *, batch_size: int = 64) -> dict[str, float]:
    """MTEB's scores of a model on a task (`ndcg_at_10`, `recall_at_1`, `hit_rate_at_1`, `mrr_at_10`, …).

    Nothing is fetched, and nothing is kept in MTEB's cache.

    Raises:
        InputError: mteb is not installed, or the model does not load.
    """
    wrapper = mteb_model(model)
    import mteb

    result = mteb.evaluate(
        wrapper,
        task,
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
    )
    (scores,) = result.task_results[0].scores["test"]
    # some of its correlations are not defined where every query succeeds
    return {key: float(value) for key, value in scores.items() if isinstance(value, int | float) and isfinite(value)}


def _mteb_classes() -> tuple[Any, Any]:
    try:
        from mteb.abstasks.retrieval import AbsTaskRetrieval
        from mteb.abstasks.task_metadata import TaskMetadata
    except ImportError as error:
        raise InputError(f"MTEB tasks need mteb ({error}): pip install -c constraints.txt 'afmrl[mteb]'") from error
    return AbsTaskRetrieval, TaskMetadata


def _has_role(offer: Offer, role: str) -> bool:
    return (role_of(offer) or "both") in (role, "both")


def _matches(queries: Sequence[Offer], gallery: Sequence[Offer]) -> dict[str, dict[str, int]]:
    """Query id to the gallery ids of its product, grade 1; queries without any are absent."""
    of_product: dict[str, list[str]] = defaultdict(list)
    for offer in gallery:
        if offer.product_id:
            of_product[offer.product_id].append(offer.id)
    found = {q.id: {i: 1 for i in of_product.get(q.product_id, ()) if i != q.id} for q in queries if q.product_id}
    return {query: relevant for query, relevant in found.items() if relevant}


def _rows(offers: Sequence[Offer], reads: str, description: bool, what: str) -> dict[str, list[str]]:
    """Columns `id`, and `text` and `image` (a path) as far as they are read."""
    columns = {"id": [offer.id for offer in offers]}
    # the image first, as the embedder is trained: a model may read its input in this order
    if "image" in MODALITIES[reads]:
        columns["image"] = [offer.image for offer in offers]
    if "text" in MODALITIES[reads]:
        columns["text"] = [offer_text(offer, description=description) for offer in offers]
    for column, needed in (("image", reads != "text"), ("text", reads == "fused")):
        without = [i for i, value in zip(columns["id"], columns.get(column, ()), strict=False) if not value]
        if needed and without:
            raise InputError(
                f"mteb task: {len(without)} offers have no {column}, the first is the {what} {without[0]!r}; MTEB "
                f"cannot leave a part of an input out: take only offers with one, or read another part than {reads!r}"
            )
    return columns


def _retrieval_split(rows: Mapping[str, Mapping[str, list[str]]], matches: Mapping[str, dict[str, int]]) -> Any:
    from datasets import Dataset, Image

    data = {}
    for part, columns in rows.items():
        data[part] = Dataset.from_dict(dict(columns))
        if "image" in columns:
            data[part] = data[part].cast_column("image", Image(mode="RGB"))
    return {**data, "relevant_docs": {query: dict(found) for query, found in matches.items()}, "top_ranked": None}


def _revision(rows: Any, matches: Any) -> str:
    """A hash of the task's content: results of another catalog are never taken for this one's."""
    return content_hash(json.dumps([rows, matches], sort_keys=True))[:40]
