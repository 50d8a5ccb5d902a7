"""`afmrl index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from afmrl.cli.summary import Summary, plain
from afmrl.data.bad_rows import MAX_DELETED
from afmrl.errors import InputError, shown_address
from afmrl.terminal import counted

if TYPE_CHECKING:
    from afmrl.index.backend import IndexBackend

SHOWN_IDS = 20


def index(
    source: str,
    *,
    out: str | None = None,
    mirror: bool = False,
    max_deleted: float = MAX_DELETED,
    dtype: Literal["f32", "f16", "i8"] | None = None,
    exact_below: int | None = None,
    delete: Annotated[list[str] | None, Parameter(negative=())] = None,
    remove: Path | None = None,
    info: bool = False,
    check: bool = False,
    fetch: bool = False,
) -> Summary:
    """Make or update an index of embeddings (EMBEDDINGS --out INDEX); delete from one, describe it, check it (INDEX).

    Only rows that are new or have changed are written; a local index changes in one step, and readers see the last
    complete version meanwhile.

    Parameters
    ----------
    source
        With --out, a folder that `afmrl embed` wrote; without, the index.
    out
        The index: a folder, postgresql://…, qdrant:http://…, qdrant:PATH or lancedb:PATH.
    mirror
        Also delete the rows that are not among the embeddings.
    max_deleted
        With --mirror: share of the rows that may be deleted in one go; more are refused. Twenty always may go.
    dtype
        How a new index stores embeddings; by default f16 in a folder.
    exact_below
        Rows up to which a new index compares all, and above which it builds an HNSW graph; by default 20,000.
    delete
        Id of a row to delete, may be repeated.
    remove
        File of ids to delete, one a line, as they stand.
    info
        Say what the index holds.
    check
        Read every byte of a local index and compare it with its checksums.
    fetch
        With --out: fetch images that are http(s) addresses and were not fetched before, for the colors that an index
        keeps where its model weighs them.
    """
    if out is not None:
        wrong = {"--delete": delete, "--remove": remove, "--info": info, "--check": check}
        if named := [name for name, value in wrong.items() if value]:
            raise InputError(f"index: {named[0]} is for an index: `afmrl index INDEX {named[0]} …`, without --out")
        return _update(
            source, out, dtype=dtype, exact_below=exact_below, mirror=mirror, max_deleted=max_deleted, fetch=fetch
        )
    of_update = {"--mirror": mirror or None, "--fetch": fetch or None, "--dtype": dtype, "--exact-below": exact_below}
    if named := [name for name, value in of_update.items() if value is not None]:
        raise InputError(f"index: {named[0]} needs EMBEDDINGS --out INDEX")
    if not (delete or remove or info or check):
        raise InputError(
            "index: give --out INDEX to index a folder of embeddings, or --info, --check, --delete or --remove for an "
            "index"
        )
    from afmrl.index.address import open_index

    summary: Summary = {"index": shown_address(source)}
    with open_index(source) as opened:
        if delete or remove:
            summary |= _delete(opened, delete or [], remove)
        if check:
            _check(source, opened)
            summary["is_sound"] = True
        if info:
            summary |= _print_info(source, opened)
        summary["rows"] = len(opened)
    return summary


def _update(
    embeddings: str,
    out: str,
    *,
    dtype: str | None,
    exact_below: int | None,
    mirror: bool,
    max_deleted: float,
    fetch: bool,
) -> Summary:
    from afmrl.index.update import update_index

    done = update_index(
        embeddings,
        out,
        dtype=dtype,
        exact_below=exact_below,
        mirror=mirror,
        max_deleted=max_deleted,
        fetch=fetch,
        progress=True,
    )
    print(f"{shown_address(out)}: {done}")
    return {"index": shown_address(out), **plain(done.touched), "deleted": done.deleted, "rows": done.rows,
            "images_not_fetched": dict(done.missing_images)}  # fmt: skip


def _delete(opened: IndexBackend, ids: list[str], file: Path | None) -> Summary:
    from afmrl.index.update import delete_rows, read_ids

    wanted = [*ids, *(read_ids(file) if file else ())]
    deleted, missing = delete_rows(opened, wanted)
    print(f"deleted {deleted:,}; {len(opened):,} rows")
    if missing:
        more = f", … and {len(missing) - SHOWN_IDS:,} more" if len(missing) > SHOWN_IDS else ""
        print(f"not found: {counted(len(missing), 'id')}: {', '.join(map(_quoted, missing[:SHOWN_IDS]))}{more}")
    return {"deleted": deleted, "not_found": missing}


def _quoted(identifier: str) -> str:
    """An id, in quotes where white space at its ends could not be seen otherwise."""
    return identifier if identifier == identifier.strip() else repr(identifier)


def _check(address: str, opened: IndexBackend) -> None:
    from afmrl.index.local.index import LocalIndex

    if not isinstance(opened, LocalIndex):
        raise InputError("index: --check reads the files of a local index; a database checks its own")
    opened.check()
    print(f"{address}: every file is as it was written")


def _print_info(address: str, opened: IndexBackend) -> Summary:
    from afmrl.index.update import describe_index

    facts = describe_index(address, opened)
    facts["index"] = shown_address(address)
    for name, value in facts.items():
        print(f"{name + ':':14} {value}")
    return {"info": facts}
