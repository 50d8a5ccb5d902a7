"""A run's data: the catalog read or drawn, its offers dealt out, and the targets that all stages use."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import traits
from afmrl.attributes.seller_attributes import new_values, stated_attributes
from afmrl.bulk.images.catalog import catalog_with_images
from afmrl.data.offer import skipped_in_words
from afmrl.data.roles import ROLES, other_roles
from afmrl.errors import InputError
from afmrl.files import file_hash, fingerprint, write_json
from afmrl.sample.catalog import write_sample_catalog
from afmrl.training.config import RARStage
from afmrl.training.processes import on_first, rank
from afmrl.training.recipe import CatalogSection, SampleSection, TargetsSection
from afmrl.training.run_state import Run
from afmrl.training.split_reward import describes, rewarded_places
from afmrl.training.splits import Split, split_offers
from afmrl.training.survey import rows_of_one_kind
from afmrl.training.teaching import known_targets, teacher_targets, teaching_set


def prepare_data(run: Run) -> None:
    """Read (or draw) the catalog and deal its offers out."""
    section = run.recipe.catalog
    path = section.path
    if section.sample is not None:
        path = str(draw_sample(run, "catalog", section.sample, run.folder / "catalog"))
    assert path is not None
    options = dataclasses.replace(section.read_options, fetch=run.fetch)
    run.catalog = catalog_with_images(path, max_bad=section.max_bad, options=options, progress=rank() == 0)
    if run.catalog.faults:
        run.say(f"{skipped_in_words(run.catalog.faults)} (skipped.json lists them)")
        skipped = [dataclasses.asdict(row) for row in run.catalog.faults]
        on_first(lambda: write_json(run.folder / "skipped.json", skipped))
    for role, count in other_roles(run.catalog.offers, section.role_column).items():
        run.say(
            f"{section.role_column} {role!r} of {count} offers is unknown (there are {', '.join(ROLES)}) and "
            "counts as no role: a product's first offer is then its query, and the others are its gallery"
        )
    targets = section.targets
    named = targets.keys is not None or targets.column != TargetsSection().column
    needs_reward = run.recipe.rar.max_steps > 0
    dealt: list[str] = []
    run.splits = split_offers(
        run.catalog.offers,
        sample_columns(section),
        skipped_ids=run.catalog.skipped_ids,
        targets_optional=run.recipe.sft.targets != "catalog" or not named,
        needs_reward=needs_reward,
        say=dealt.append,
    )
    for line in dealt:
        run.say(line)
    also = [*([needs_reward] if dealt else []), *(["fetched"] if run.fetch else [])]
    run.made_of["data"] = fingerprint(section, file_hash(path), *also)
    _say_stated(run)
    _take_targets(run)  # a wrong file is refused before hours of training
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
    if run.recipe.rar.max_steps:  # too few are refused before hours of training
        _check_rewarded(run.recipe.rar, run.splits["reward"])
    for name, split in run.splits.items():
        run.say(
            f"{name}: {len(split.offers)} offers, {len(split.queries)} queries, {len(set(split.families))} families"
        )
    if not run.splits["test"].queries:
        run.say(
            "test: holds no query with a match in its gallery, so the run is measured on val; where val also chooses, "
            "there is no verdict"
        )


def _say_stated(run: Run) -> None:
    """Say it where the embedder reads the same column that the generator learns to write: it may hold labels."""
    recipe = run.recipe
    shown, targets = recipe.agcl.seller_attributes, sample_columns(recipe.catalog).targets
    learns = recipe.sft.max_steps and recipe.sft.targets != "teacher"
    if shown == "none" or targets.column != "attributes" or not learns:
        return
    offers = [offer for split in run.splits.values() for offer in split.offers]
    count = sum(bool(new_values(stated_attributes(offer, shown), offer.title)) for offer in offers)
    if count:
        run.say(
            f"the text of {count:,} of {len(offers):,} offers shows what sellers state in the column 'attributes', "
            "from which the generator learns too; if it holds labels that new offers will lack, set "
            "agcl.seller_attributes=none"
        )


def _check_rewarded(config: RARStage, split: Split) -> None:
    places, _ = rewarded_places(config, split)
    offers = split.gallery_offers() if config.attributes_on == "gallery" else split.query_offers()
    rows_of_one_kind(config, [offers[place] for place in places], describes(config))


def _take_targets(run: Run) -> None:
    """What the generator learns, and the same targets for all others that use them: AGCL, reward, accuracy, CIT."""
    sft = run.recipe.sft
    if sft.targets == "rules":
        _read_targets_by_rules(run)
    elif sft.targets == "catalog" and not any(map(len, run.splits["train"].targets)):
        run.say("the catalog has no attributes: rules read targets off the titles (colors, sizes, model numbers, …)")
        _read_targets_by_rules(run)
    train = run.splits["train"]
    if sft.targets in ("catalog", "rules") and not any(map(len, train.targets)):
        _leave_generator_out(run)
        return
    run.teaching_set = teaching_set(sft, train.offers, train.targets)
    prompt = run.teaching_set.prompt
    schema = prompt.schema if prompt else None
    teacher = teacher_targets(sft)
    if teacher is None and schema is None:
        return
    for name, split in run.splits.items():
        known = known_targets(sft, split.offers, split.targets, teacher)
        targets = [target or KeyAttributes() for target in known]
        if schema is not None:
            pairs = zip(split.offers, targets, strict=True)
            targets = [schema.apply(target, offer.category) for offer, target in pairs]
        run.splits[name] = dataclasses.replace(split, targets=targets)
    of_train = [str(target) for target in run.splits["train"].targets]
    run.made_of["data"] = fingerprint(run.made_of["data"], of_train, schema and schema.as_dict())


def _read_targets_by_rules(run: Run) -> None:
    """Targets of every split as rules read them off the titles; brands are learned on the training offers."""
    extractor = AttributeExtractor.learn(run.splits["train"].offers)
    for name, split in run.splits.items():
        read = (extractor.extract(offer) for offer in split.offers)
        targets = [traits(of).without("number") for of in read]  # a number that identifies, and nothing to learn
        run.splits[name] = dataclasses.replace(split, targets=targets)
    of_train = [str(target) for target in run.splits["train"].targets]
    run.made_of["data"] = fingerprint(run.made_of["data"], of_train)


def _leave_generator_out(run: Run) -> None:
    """Train the embedder alone: there is nothing that a generator could learn to write."""
    if run.recipe.sft.max_steps:
        run.say("neither the catalog nor its titles hold attributes: the embedder is trained alone, no generator")
    changes = {"sft.max_steps": 0, "rar.max_steps": 0, "cit.rounds": 0, "agcl.attributes_on": "none"}
    run.recipe = run.recipe.changed({**changes, "agcl.text_attributes": "targets", "cit.guidance": "written"})


def sample_columns(section: CatalogSection) -> CatalogSection:
    """The section, with the targets of the sample catalog in the column that says what its offers show."""
    if section.sample is None or section.targets.column != "attributes":
        return section
    return section.model_copy(update={"targets": section.targets.model_copy(update={"column": "visible_attributes"})})


def draw_sample(run: Run, name: str, sample: SampleSection, folder: Path, *, image_size: int = 56) -> Path:
    """Draw a sample catalog into a folder, as the stage `name`, unless it is there; returns its file."""

    def work(_: Path) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        write_sample_catalog(
            folder,
            families=sample.families,
            seed=run.recipe.seed,
            image_size=image_size,
            progress=True,
        )
        return {}

    path = folder / "catalog.jsonl"
    if rank() == 0 and not path.is_file():  # it is beside the stages, and was removed
        shutil.rmtree(run.ledger.folder / name, ignore_errors=True)
    run.ledger.run(name, fingerprint(sample, image_size, run.recipe.seed), work)
    return path
