"""`afmrl index` and `afmrl search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from afmrl.attributes.attributes_on import on_query
from afmrl.errors import InputError

if TYPE_CHECKING:
    from afmrl.data.offer import Offer
    from afmrl.index.backend import Hits, IndexBackend

CATALOGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
SHOWN_QUERIES = 10  # of --queries without --out
SHOWN_IDS = 20


def index(
    source: str,
    *,
    out: str | None = None,
    mirror: bool = False,
    dtype: Literal["f32", "f16", "i8"] | None = None,
    exact_below: int | None = None,
    delete: Annotated[list[str] | None, Parameter(negative=())] = None,
    remove: Path | None = None,
    info: bool = False,
    check: bool = False,
) -> None:
    """Make or update an index of embeddings (EMBEDDINGS --out INDEX); delete from one, describe it, check it (INDEX).

    Only rows that are new or have changed are written; a local index changes in one step, and readers see the last
    complete version meanwhile.

    Parameters
    ----------
    source
        With --out, a folder that `afmrl embed` wrote; else the index.
    out
        The index: a folder, postgresql://…, qdrant:http://…, qdrant:PATH or lancedb:PATH.
    mirror
        Also delete the rows that are not among the embeddings.
    dtype
        How a new index stores embeddings; by default f16 in a folder.
    exact_below
        Rows up to which a new index compares all, and above which it builds an HNSW graph; by default 20,000.
    delete
        Id of a row to delete, as often as wanted.
    remove
        File of ids to delete, one a line.
    info
        Say what the index holds.
    check
        Read every byte of a local index and compare it with its checksums.
    """
    if out is not None:
        wrong = {"--delete": delete, "--remove": remove, "--info": info, "--check": check}
        if named := [name for name, value in wrong.items() if value]:
            raise InputError(f"index: {named[0]} is of an index: `afmrl index INDEX {named[0]} …`, without --out")
        _update(source, out, dtype=dtype, exact_below=exact_below, mirror=mirror)
        return
    of_update = {"--mirror": mirror or None, "--dtype": dtype, "--exact-below": exact_below}
    if named := [name for name, value in of_update.items() if value is not None]:
        raise InputError(f"index: {named[0]} goes with EMBEDDINGS --out INDEX")
    if not (delete or remove or info or check):
        raise InputError(
            "index: give --out INDEX to index a folder of embeddings, or --info, --check, --delete or --remove for an "
            "index"
        )
    from afmrl.index.backend import open_index

    with open_index(source) as opened:
        if delete or remove:
            _delete(opened, delete or [], remove)
        if check:
            _check(source, opened)
        if info:
            _print_info(source, opened)


def search(
    target: str,
    *,
    text: str = "",
    image: Path | None = None,
    queries: Path | None = None,
    out: Path | None = None,
    k: int = 10,
    category: Annotated[list[str] | None, Parameter(negative=())] = None,
    seller: Annotated[list[str] | None, Parameter(negative=())] = None,
    model: str | None = None,
    generator: str | None = None,
    hybrid: bool | None = None,
    hybrid_weight: float | None = None,
    split: str | None = None,
    max_bad: float | None = None,
) -> None:
    """Find the offers of an index, or of a catalog, that look and read most like an image and a text.

    Parameters
    ----------
    target
        An index that `afmrl index` made; or a catalog file that fits in memory, which is embedded anew at every
        search.
    text, image
        What is searched for: a text, an image, or both.
    queries
        Of an index: a catalog of what is searched for; an offer of the index is no hit of itself.
    out
        With --queries: hits.jsonl, in the line format of `afmrl evaluate`.
    k
        Hits of each query.
    category, seller
        Of an index: search only offers of this category, of this seller; as often as wanted.
    model
        A trained embedder's folder; of an index by default the one whose embeddings it holds.
    generator
        A generator's folder: its attributes enrich what is searched for.
    hybrid
        Of an index: add BM25 over title and attributes to the cosine (the default); --no-hybrid leaves it out.
    hybrid_weight
        Of BM25; by default what the model learned (fusion.json), else a fixed one.
    split
        Of a catalog: search only in offers whose column `split` says this.
    max_bad
        Share of a catalog's rows that may be skipped as unreadable; by default 0.01.
    """
    from afmrl.terminal import quiet_libraries

    if Path(target).is_file() or Path(target).suffix.lower() in CATALOGS:
        of_index = {
            "--queries": queries, "--out": out, "--category": category, "--seller": seller, "--hybrid": hybrid,
            "--hybrid-weight": hybrid_weight,
        }  # fmt: skip
        if named := [name for name, value in of_index.items() if value is not None]:
            raise InputError(
                f"search: {named[0]} is for an index; `afmrl embed` and `afmrl index` make one of a catalog"
            )
        if model is None:
            raise InputError("search: a catalog is embedded anew; give --model")
        from afmrl.index.search import print_hits, search_catalog

        quiet_libraries()
        hits = search_catalog(
            target, model, text=text, image=image, generator=generator, k=k, split=split,
            max_bad=0.01 if max_bad is None else max_bad,
        )  # fmt: skip
        print_hits(hits)
        return
    if split is not None:
        raise InputError("search: --split is of a catalog; filter an index by --category and --seller")
    if hybrid is False and hybrid_weight is not None:
        raise InputError("search: --no-hybrid leaves BM25 out, --hybrid-weight weighs it; give one of them")
    if hybrid_weight is not None and not 0 <= hybrid_weight < float("inf"):
        raise InputError(f"search: --hybrid-weight {hybrid_weight}: 0 or more")
    from afmrl.data.catalog import read_catalog
    from afmrl.index.backend import open_index
    from afmrl.index.search import IndexSearch, query_offer

    if queries is None:
        if out is not None or max_bad is not None:
            raise InputError(f"search: {'--out' if out else '--max-bad'} goes with --queries FILE")
        asked: tuple[Offer, ...] = (query_offer(text, image, k),)
    elif text or image:
        raise InputError("search: give --queries, or --text and --image")
    else:
        asked = read_catalog(queries, max_bad=0.01 if max_bad is None else max_bad).offers
    quiet_libraries()
    with open_index(target) as opened:
        _say_generator(opened, generator)
        where = {column: values for column, values in (("category", category), ("seller", seller)) if values}
        how = IndexSearch(opened, model, generator, hybrid is not False, hybrid_weight)
        found = how.search(asked, k, where=where, own_hits=queries is None)
        _show(opened, asked, found, out, single=queries is None)


def _show(opened: IndexBackend, asked: tuple[Offer, ...], found: Hits, out: Path | None, *, single: bool) -> None:
    from afmrl.index.search import hits_of, print_hits
    from afmrl.retrieval.hits import write_hits

    if out is not None:
        rows = zip(asked, found.ids, found.scores, strict=True)
        write_hits(out, ((query.id, zip(ids, scores.tolist(), strict=True)) for query, ids, scores in rows))
        print(f"{len(asked):,} queries, {sum(map(len, found.ids)):,} hits: {out}")
        return
    for query, ids, scores in list(zip(asked, found.ids, found.scores, strict=True))[:SHOWN_QUERIES]:
        if not ids:
            print("no offer passes the filter" if single else f"{query.id}: no offer passes the filter")
            continue
        print_hits(hits_of(opened, ids, scores), title=None if single else f"{query.id}: {query.title}", images=False)
    if len(asked) > SHOWN_QUERIES:
        print(f"… and {len(asked) - SHOWN_QUERIES:,} queries more; --out FILE writes the hits of all")


def _say_generator(opened: IndexBackend, generator: str | None) -> None:
    known = opened.settings.get("generator") or {}
    if generator is None and known and on_query(opened.settings.get("attributes_on")):
        import sys

        print(
            f"afmrl: the model was trained to read key attributes of what is searched for; --generator {known['path']} "
            "writes them",
            file=sys.stderr,
        )


def _update(embeddings: str, out: str, *, dtype: str | None, exact_below: int | None, mirror: bool) -> None:
    from afmrl.index.update import update_index

    done = update_index(embeddings, out, dtype=dtype, exact_below=exact_below, mirror=mirror, progress=True)
    print(f"{_shown(out)}: {done}")


def _delete(opened: IndexBackend, ids: list[str], file: Path | None) -> None:
    from afmrl.index.update import delete_rows, read_ids

    wanted = [*ids, *(read_ids(file) if file else ())]
    deleted, missing = delete_rows(opened, wanted)
    print(f"deleted {deleted:,}; {len(opened):,} rows")
    if missing:
        more = f", … and {len(missing) - SHOWN_IDS:,} more" if len(missing) > SHOWN_IDS else ""
        print(f"not found: {len(missing):,} ids: {', '.join(missing[:SHOWN_IDS])}{more}")


def _check(address: str, opened: IndexBackend) -> None:
    from afmrl.index.local.index import LocalIndex

    if not isinstance(opened, LocalIndex):
        raise InputError("index: --check reads the files of a local index; a database checks its own")
    opened.check()
    print(f"{address}: every file is as it was written")


def _print_info(address: str, opened: IndexBackend) -> None:
    from afmrl.index.update import describe_index

    facts = describe_index(address, opened)
    facts["index"] = _shown(address)
    for name, value in facts.items():
        print(f"{name + ':':14} {value}")


def _shown(address: str) -> str:
    """An address without its password."""
    from afmrl.index.records import without_password

    return without_password(address)
