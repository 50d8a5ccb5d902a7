"""A run's data: the catalog read or drawn, its offers dealt out, and the labels that all stages are held to."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.errors import InputError
from afmrl.files import file_hash, fingerprint, write_json
from afmrl.training.processes import on_first, rank
from afmrl.training.recipe import CatalogSection, SampleSection
from afmrl.training.splits import other_roles, split_offers
from afmrl.training.teaching import said_labels, teacher_labels, teaching_set

if TYPE_CHECKING:
    from afmrl.training.run import Run


def prepare_data(run: Run) -> None:
    """Read (or draw) the catalog and deal its offers out."""
    section = run.recipe.catalog
    path = section.path
    if section.sample is not None:
        path = str(draw_sample(run, "catalog", section.sample, run.folder / "catalog"))
    assert path is not None
    run.catalog = read_catalog(path, max_bad=section.max_bad)
    if run.catalog.skipped:
        run.say(f"{len(run.catalog.skipped)} of the catalog's rows were skipped (skipped.json lists them)")
        skipped = [dataclasses.asdict(row) for row in run.catalog.skipped]
        on_first(lambda: write_json(run.folder / "skipped.json", skipped))
    for role, count in other_roles(run.catalog.offers, section).items():
        run.say(
            f"{section.role_column} {role!r} of {count} offers is neither 'query' nor 'gallery': a product's "
            "first offer is then its query, and the others are its gallery"
        )
    skipped_ids = [row.id for row in run.catalog.skipped if row.id]
    run.splits = split_offers(
        run.catalog.offers,
        sample_columns(section),
        skipped_ids=skipped_ids,
        labels_optional=run.recipe.sft.targets != "catalog",
    )
    run.made_of["data"] = fingerprint(section, file_hash(path))
    _take_labels(run)  # a wrong file is told before hours of training
    if run.recipe.rar.max_steps and not run.splits["reward"].queries:
        raise InputError(
            "RAR needs families of their own: the split 'reward' holds no query with a match in its gallery; deal "
            "some to it in catalog.split, or set rar.max_steps=0"
        )
    if not run.splits["test"].queries and not run.splits["val"].queries:
        raise InputError(
            "catalog: neither the split 'test' nor 'val' holds a query with a match in its gallery, so the run could "
            "not be measured; deal some products to 'test' in catalog.split"
        )
    if run.recipe.cit.rounds and not run.splits["val"].queries:
        raise InputError(
            "CIT keeps the round that is best on the split 'val', which holds no query with a match in its gallery; "
            "deal some products to 'val' in catalog.split, or set cit.rounds=0"
        )
    for name, split in run.splits.items():
        run.say(
            f"{name}: {len(split.offers)} offers, {len(split.queries)} queries, {len(set(split.families))} families"
        )


def _take_labels(run: Run) -> None:
    """What the generator is taught, and the same labels for all that is held to them: AGCL, reward, accuracy, CIT."""
    sft, train = run.recipe.sft, run.splits["train"]
    run.taught = teaching_set(sft, train.offers, train.labels)
    prompt = run.taught[2]
    schema = prompt.schema if prompt else None
    teacher = teacher_labels(sft)
    if teacher is None and schema is None:
        return
    for name, split in run.splits.items():
        labels = [label or KeyAttributes() for label in said_labels(sft, split.offers, split.labels, teacher)]
        if schema is not None:
            labels = [schema.apply(label, offer.category) for offer, label in zip(split.offers, labels, strict=True)]
        run.splits[name] = dataclasses.replace(split, labels=labels)
    of_train = [str(label) for label in run.splits["train"].labels]
    run.made_of["data"] = fingerprint(run.made_of["data"], of_train, schema and schema.as_dict())


def sample_columns(section: CatalogSection) -> CatalogSection:
    # the sample says in a column of its own what can be seen or read of an offer
    if section.sample is None or section.labels.column != "attributes":
        return section
    return dataclasses.replace(section, labels=dataclasses.replace(section.labels, column="visible_attributes"))


def draw_sample(run: Run, name: str, sample: SampleSection, folder: Path) -> Path:
    from afmrl.sample.catalog import write_sample_catalog

    def work(_: Path) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        write_sample_catalog(
            folder,
            families=sample.families,
            seed=sample.seed + run.recipe.seed,
            image_size=sample.image_size,
            num_siblings=sample.num_siblings,
            progress=True,
        )
        return {}

    path = folder / "catalog.jsonl"
    if rank() == 0 and not path.is_file():  # it lies beside the stages: somebody tidied up
        shutil.rmtree(run.ledger.folder / name, ignore_errors=True)
    run.ledger.run(name, fingerprint(sample, run.recipe.seed), work)
    return path
