"""`afmrl attributes` and `afmrl embed`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from afmrl.attributes.attributes_on import AttributesOn
from afmrl.attributes.seller_attributes import SellerAttributes
from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Ended, Summary, plain
from afmrl.data.bad_rows import MAX_BAD
from afmrl.errors import InputError

if TYPE_CHECKING:
    from afmrl.bulk.work import AttributesOptions, EmbedOptions, Work
    from afmrl.data.reading import ReadOptions
    from afmrl.data.rows import CatalogRows

Engine = Literal["local", "ray"]


def attributes(
    catalog: str,
    *,
    generator: str,
    out: Path,
    schema: Path | None = None,
    show_sellers: bool = False,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    shard_rows: int = 50_000,
    device: str | None = None,
    concurrency: int | None = None,
    max_bad: float = MAX_BAD,
    engine: Engine = "local",
    ray_workers: int | None = None,
    reading: Reading | None = None,
) -> Summary:
    """Write the key attributes of a catalog's offers to Parquet shards; a run that was stopped resumes.

    Only what is new or has changed is done: a row, its image, the generator, the prompt. Exit code 3: more rows
    than --max-bad allows are bad.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet, or a data set of the library `datasets` (a folder, or owner/name).
    generator
        `small` (real weights from installed packages); a generator's folder or its name on the hub (a multimodal model,
        or a language model, which reads no images); `openai:http://host:8000/v1#model` for a server (vLLM, SGLang, …);
        `trained:FOLDER@openai:…` for a trained generator that is served there; or `recorded:FILE`.
    out
        Folder of the shards, manifest.json and quarantine.jsonl.
    schema
        Keys of each category that a general model or `small` is asked for (YAML or JSON; see `afmrl schema`). A
        generator that was trained here has its own.
    show_sellers
        Show a general model what the seller wrote as attributes, named as the seller's.
    batch_size
        Offers generated together.
    max_new_tokens
        Of what is written for an offer, by default 96, and 512 for JSON; what is cut off counts as invalid.
    shard_rows
        Rows of a shard.
    device
        Of the model: cpu, cuda, cuda:1, …
    concurrency
        Requests under way at a time, where the generator is a server; 8 by default.
    max_bad
        Share of rows that may go to quarantine.
    engine
        "local": this machine; "ray": a Ray cluster (RAY_ADDRESS, otherwise one on this machine).
    ray_workers
        With --engine ray: processes that hold the model; by default one a GPU, or one for two CPUs.
    """
    from afmrl.bulk.attributes import AttributesWork
    from afmrl.bulk.work import AttributesOptions, check_positive
    from afmrl.terminal import quiet_libraries

    check_positive("max_new_tokens", max_new_tokens)
    check_positive("concurrency", concurrency)
    quiet_libraries()
    options = AttributesOptions(
        generator,
        str(schema.resolve()) if schema else None,
        batch_size,
        max_new_tokens,
        device,
        read_options(reading).fetch,
        concurrency,
        show_sellers,
    )
    load = partial(AttributesWork, options)
    return _run(catalog, options, load, out, None, shard_rows, max_bad, engine, ray_workers, reading)


def embed(
    catalog: str,
    *,
    model: str,
    out: Path,
    generator: str | None = None,
    attributes: Path | None = None,
    attributes_on: AttributesOn | None = None,
    seller_attributes: SellerAttributes | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    shard_rows: int = 50_000,
    device: str | None = None,
    scaled_jpeg: bool = False,
    max_bad: float = MAX_BAD,
    engine: Engine = "local",
    ray_workers: int | None = None,
    reading: Reading | None = None,
) -> Summary:
    """Write the embeddings of a catalog's offers to Parquet shards; a run that was stopped resumes.

    Only what is new or has changed is done: a row, its image, a model, the prompt. Exit code 3: more rows than
    --max-bad allows are bad.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet, or a data set of the library `datasets` (a folder, or owner/name).
    model
        A trained embedder's folder, or any sentence-transformers model.
    out
        Folder of the shards, manifest.json and quarantine.jsonl.
    generator
        A generator, as in `afmrl attributes`: its key attributes are written too.
    attributes
        Folder that `afmrl attributes` wrote of the same catalog, instead of a generator.
    attributes_on
        "both", "gallery": the embedder reads the key attributes; "query", "none": they are only written beside the
        embeddings; by default what the model was trained for.
    seller_attributes
        Which of the sellers' attributes the embedder reads with the title, and BM25 in an index: "identifying" (brand,
        model number, color, size, …), "all" but prices, stock and ids, or "none"; by default what the model was trained
        with, and "identifying" for a model that was not trained here.
    dtype
        Of the embeddings.
    batch_size
        Offers embedded together.
    max_new_tokens
        With --generator: of what is written for an offer.
    shard_rows
        Rows of a shard.
    device
        Of the models: cpu, cuda, cuda:1, …
    scaled_jpeg
        Decode large JPEG images at a fraction of their size: faster, and nearly the same embeddings.
    max_bad
        Share of rows that may go to quarantine.
    engine
        "local": this machine; "ray": a Ray cluster (RAY_ADDRESS, otherwise one on this machine).
    ray_workers
        With --engine ray: processes that hold the models; by default one a GPU, or one for two CPUs.
    """
    from afmrl.bulk.embeddings import EmbedWork
    from afmrl.bulk.work import EmbedOptions, check_positive
    from afmrl.terminal import quiet_libraries

    if generator is not None and attributes is not None:
        raise InputError("embed: --generator writes key attributes and --attributes reads them; give one of them")
    check_positive("max_new_tokens", max_new_tokens)
    quiet_libraries()
    options = EmbedOptions(
        model=model,
        generator=generator,
        attributes=str(attributes.resolve()) if attributes else None,
        attributes_on=attributes_on,
        seller_attributes=seller_attributes,
        dtype=dtype,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        device=device,
        scaled_jpeg=scaled_jpeg,
        fetch=read_options(reading).fetch,
    )
    load = partial(EmbedWork, options)
    return _run(catalog, options, load, out, attributes, shard_rows, max_bad, engine, ray_workers, reading)


def _run(
    catalog: str,
    options: AttributesOptions | EmbedOptions,
    load: Callable[[], Work],
    out: Path,
    attributes: Path | None,
    shard_rows: int,
    max_bad: float,
    engine: Engine,
    ray_workers: int | None,
    reading: Reading | None,
) -> Summary:
    from afmrl.attributes.evidence import usual_share
    from afmrl.bulk.job import BulkJob
    from afmrl.bulk.quarantine import TooManyBadRows
    from afmrl.bulk.work import AttributesOptions, check_positive
    from afmrl.bulk.written_attributes import WrittenAttributes
    from afmrl.data.reading import announce

    check_positive("batch_size", options.batch_size)
    if ray_workers is not None:
        if engine != "ray":
            raise InputError("--ray-workers needs --engine ray")
        check_positive("ray_workers", ray_workers)
    rows = _catalog(catalog, out, read_options(reading))
    written = WrittenAttributes(attributes) if attributes is not None else None
    if engine == "ray":
        from afmrl.bulk.ray import RayWork

        work: Work = RayWork(load, workers=ray_workers)
    else:
        work = load()
    job = BulkJob(
        rows,
        work,
        out,
        attributes=written,
        max_bad=max_bad,
        shard_rows=shard_rows,
        addresses=options.fetch,
        progress=True,
    )
    try:
        try:
            summary = job.run()
        finally:
            if job.reading.rows:
                announce(job.reading)
    except TooManyBadRows as error:
        print(
            f"afmrl: {error}\nAll of them: {out / 'quarantine.jsonl'}. What was done is kept: fix the rows or raise "
            "--max-bad, and give the same command again.",
            file=sys.stderr,
        )
        raise Ended(3, {"out": out, "error": str(error), **plain(job.summary)}) from None
    print(f"{out}: {summary}")
    writer = getattr(work, "writer", None)  # Ray's workers hold theirs
    if isinstance(options, AttributesOptions):
        images = summary.with_images and (writer is None or writer.generator.reads_images)
        for line in summary.evidence.lines(usual_share(options.generator_folder), images=images):
            print(line)
    notes = writer.notes() if writer is not None else []
    num_invalid = writer.num_invalid if writer is not None else 0
    if num_invalid and num_invalid == summary.new + summary.again:
        notes.append("warning: not one answer is a list of key attributes; these offers need another generator")
    for note in notes:
        print(note)
    return {"out": out, **plain(summary), "invalid": num_invalid, "notes": notes}


def _catalog(catalog: str, out: Path, options: ReadOptions) -> CatalogRows:
    from afmrl.bulk.state import IMAGES
    from afmrl.data.rows import CatalogFile

    path = Path(catalog)
    if path.is_dir() or (not path.exists() and _is_hub_name(catalog)):
        from afmrl.data.dataset_rows import DatasetRows

        return DatasetRows(catalog, out / IMAGES, options)
    return CatalogFile(path, options)


def _is_hub_name(catalog: str) -> bool:
    """`owner/name`, and no path to a file that is missing.

    >>> _is_hub_name("owner/name"), _is_hub_name("folder/offers.csv"), _is_hub_name("./name")
    (True, False, False)
    """
    from afmrl.data.rows import ENDINGS

    owner, separator, name = catalog.partition("/")
    known = Path(catalog).suffix.lower() in ENDINGS
    return bool(separator and owner.strip(".") and name) and "/" not in name and not known
