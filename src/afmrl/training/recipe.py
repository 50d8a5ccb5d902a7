"""A recipe: everything that a run needs, as pydantic models and as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.reading import ReadOptions, column_pairs
from afmrl.embedder.names import only_embeds
from afmrl.errors import InputError, check_type
from afmrl.retrieval.floors import Untrained
from afmrl.training.config import (
    AGCLStage,
    AtLeast0,
    AtLeast1,
    Augmentation,
    CITStage,
    Config,
    Hardware,
    NotNegative,
    Positive,
    RARStage,
    SFTStage,
    Share,
    faults,
)
from afmrl.training.recipe_faults import fault_lines
from afmrl.training.recipe_files import RecipeFile, override, read_recipe

SplitName = Literal["train", "reward", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Row = Literal["text", "image", "untrained", "agcl", "sft", "rar", "perfect"]
ROWS: tuple[Row, ...] = get_args(Row)
"""Rows of the table; "cit" joins them where there are rounds."""
FLOORS: tuple[Untrained, ...] = get_args(Untrained)


class SampleSection(Config):
    """The sample catalog, drawn when the run starts."""

    families: dict[str, AtLeast0] = {"train": 240, "reward": 60, "val": 30, "test": 100}
    """Families of each split. A family has 5 products that differ little."""


class PositivesSection(Config):
    """What says that two offers are the same product. Name exactly one."""

    column: str | None = "product_id"
    """A column whose equal values mean the same product (product_id, gtin, …). GTINs are one however they are spelled;
    placeholders, and numbers that a spreadsheet has rounded, name no product."""
    pairs: str | None = None
    """A JSONL file of `left`, `right` (offer ids) and, optionally, `label` (0 or 1)."""

    @model_validator(mode="after")
    def _exactly_one(self) -> PositivesSection:
        if bool(self.pairs) == bool(self.column):
            what = "needs exactly one of 'column' (product_id, gtin, …) and 'pairs' (a file)"
            raise faults(("", f"{what}; with 'pairs' set 'column: null'"))
        return self


class SplitSection(Config):
    """Which offers train, reward, validate, test."""

    column: str | None = "split"
    """Column that names the split."""
    shared: str | None = None
    """Value of that column whose offers belong to every split: one catalog that photographs of known products are
    looked up in. Train and test then hold the same products, which is refused otherwise, and their queries differ."""
    by: str | None = None
    """Instead of a split column: a column (family, style) whose values are dealt out whole, by `fractions`. They are
    dealt the same whatever the seed, so that seeds are compared on the same test offers."""
    fractions: dict[SplitName, NotNegative] = {"train": 0.7, "reward": 0.1, "val": 0.05, "test": 0.15}
    """Share of the values of `by` that each split gets."""

    @field_validator("fractions")
    @classmethod
    def _something_is_dealt(cls, fractions: dict[SplitName, float]) -> dict[SplitName, float]:
        if not sum(fractions.values()):
            raise ValueError(f"{fractions} deals out nothing; give at least one share above 0")
        return fractions


class TargetsSection(Config):
    """Where the key attributes that the generator learns to write come from."""

    column: str = "attributes"
    """Column that holds them, a dict for each offer: only what can be read off its own image and text."""
    keys: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Keep only these keys, in this order. Null: all."""
    shared: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Keys that every offer of a product takes over from the product's other offers (a color that the image
    shows but only one seller wrote down)."""


class CatalogSection(Config):
    """The offers of a run: a file of your own, or the sample catalog."""

    path: str | None = None
    """JSONL, CSV, TSV, Parquet or a shop's export. In a recipe file relative to it, on the command line to the working
    folder."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field or attribute: column of the file, where its name does not say it. Also as title=Name,id=SKU. Delimiter and
    encoding of the file are detected."""
    sample: SampleSection | None = None
    """Draw the sample catalog instead."""
    positives: PositivesSection = Field(default_factory=PositivesSection)
    """What says that two offers are the same product."""
    split: SplitSection = Field(default_factory=SplitSection)
    """Which offers train, reward, validate, test."""
    targets: TargetsSection = Field(default_factory=TargetsSection)
    """Key attributes to learn."""
    role_column: str = "role"
    """Column that says "query", "gallery" or "both". Where it is empty or "both", a product's first offer is its query
    and the others are its gallery."""
    family_column: str | None = "family_id"
    """Column of near-identical siblings: intervals are bootstrapped over it."""
    max_bad: Share = MAX_BAD
    """Share of rows that may be skipped as unreadable."""

    @field_validator("columns", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return column_pairs([value] if isinstance(value, str) else value) if isinstance(value, str | list) else value

    @property
    def read_options(self) -> ReadOptions:
        """How the file is read."""
        return ReadOptions(self.columns)

    @model_validator(mode="after")
    def _one_source(self) -> CatalogSection:
        if (self.path is None) == (self.sample is None):
            raise faults(("", "needs either 'path' (your own offers) or 'sample' (drawn ones)"))
        return self


class PretrainSection(Config):
    """Short pretraining of the tiny default on image + title → visible attributes, as real models come pretrained."""

    max_steps: AtLeast1 = 300
    """Optimizer steps."""
    batch_size: AtLeast1 = 64
    """Offers a step."""
    learning_rate: Positive = 1e-3
    """Peak learning rate, then down to 0 by a cosine."""
    families: AtLeast1 | None = None
    """Families of a sample catalog drawn for it. Null: pretrain on the run's own training offers."""
    image_size: AtLeast1 = 56
    """Side of that sample's images, in pixels."""


class TinySection(Config):
    """The tiny default model, built and pretrained at the start of the run."""

    vocab_size: AtLeast1 = 2048
    """Tokens at most."""
    hidden_size: AtLeast1 = 128
    """Width of the text model."""
    num_layers: AtLeast1 = 4
    """Layers of the text model; the vision tower has half as many."""
    image_side: AtLeast1 = 84
    """Larger images are reduced to the area of a square of this side; 28 × 28 pixels become one token."""
    own_words: bool = True
    """Whether the tokenizer learns the run's own titles and targets beside the sample's. If not, own names come in
    pieces, as do names first met after training, and the model depends on nothing of the catalog."""
    pretrain: PretrainSection = Field(default_factory=PretrainSection)
    """Its pretraining."""


class EvaluationSection(Config):
    """How the run is measured."""

    batch_size: AtLeast1 = 64
    """Offers embedded or generated for at a time."""
    rows: Annotated[tuple[Row, ...], Field(strict=False, min_length=1)] = ROWS
    """Rows of the table."""
    floors: Annotated[tuple[Untrained, ...], Field(strict=False)] = FLOORS
    """What the trained model is compared with for the verdict, as far as the offers allow."""
    fuse: bool = False
    """Learn the weights of BM25 and image colors beside the dense score, and store them with the embedder. Where they
    do not help on the split val, they are 0."""


class Recipe(Config):
    """One run: catalog → SFT → AGCL → RAR → CIT, if asked → evaluation."""

    name: str = "run"
    """Title of the report."""
    seed: AtLeast0 = 0
    """Seed of catalog, models and training."""
    catalog: CatalogSection
    """The offers."""
    base: str | None = None
    """Model that the embedder starts from: a folder, a hub name (the paper: Qwen/Qwen2-VL-2B-Instruct), "small" or
    "minilm" (extra `small`). A text model and an image model are joined by "TEXT + IMAGE"."""
    generator_base: str | None = None
    """Model that the generator starts from (the paper: Qwen/Qwen2.5-VL-3B-Instruct). Null: `base`."""
    tiny: TinySection | None = None
    """Build the tiny default model instead of naming a base."""
    hardware: Hardware = Field(default_factory=Hardware)
    """What the machine can hold, for all stages."""
    augment: Augmentation = Field(default_factory=Augmentation)
    """How training offers are varied, in SFT and in AGCL."""
    sft: SFTStage = Field(default_factory=SFTStage)
    """Generator, supervised."""
    agcl: AGCLStage = Field(default_factory=AGCLStage)
    """Embedder, contrastive."""
    rar: RARStage = Field(default_factory=RARStage)
    """Generator, rewarded by retrieval."""
    cit: CITStage = Field(default_factory=CITStage)
    """Embedder again, on attributes that the rewarded generator wrote."""
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    """The table and the report."""

    @model_validator(mode="after")
    def _one_base(self) -> Recipe:
        if (self.base is None) == (self.tiny is None):
            raise faults(("", "name either 'base' (a model's folder or hub name) or 'tiny' (the default model)"))
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Recipe:
        found = []
        if self.cit.guidance == "before" and self.agcl.attributes_on == "none":
            found.append(("cit.guidance", "needs attributes in the text, and 'agcl.attributes_on' is 'none'"))
        rewarded, trained = self.rar.attributes_on, self.agcl.attributes_on
        if rewarded and rewarded != trained and trained in ("query", "gallery"):
            what = f"is {rewarded!r}, and 'agcl.attributes_on' {trained!r}: the embedder would read attributes where it"
            found.append(("rar.attributes_on", f"{what} never saw any; leave rar.attributes_on out"))
        if self.base and only_embeds(self.base) and self.generator_base is None and self.sft.max_steps:
            found.append(
                (
                    "generator_base",
                    f"needs a model that writes, and 'base: {self.base}' only embeds; name one"
                    ", or set 'sft.max_steps' and 'rar.max_steps' to 0",
                )
            )
        if self.sft.max_steps == 0:
            what = "the generator that SFT trains, and 'sft.max_steps' is 0"
            if self.rar.max_steps:
                found.append(("rar.max_steps", f"needs {what}; set it to 0"))
            if self.agcl.text_attributes == "generated":
                found.append(("agcl.text_attributes", f"'generated' needs {what}"))
        if self.cit.rounds and self.rar.max_steps == 0:
            found.append(("cit.rounds", "needs a generator that RAR trained; set 'rar.max_steps' above 0"))
        if (
            self.sft.prompt.show_sellers_attributes
            and self.sft.targets != "teacher"
            and self.catalog.targets.column == "attributes"
        ):
            what = f"shows what 'sft.targets' {self.sft.targets!r} asks for, and the generator would learn to copy it"
            remedy = "take a teacher's targets, or another 'catalog.targets.column'"
            found.append(("sft.prompt.show_sellers_attributes", f"{what}; {remedy}"))
        if found:
            raise faults(*found)
        return self

    def settings_of_all_stages(self) -> dict[str, Any]:
        """What every stage is made of beside its own section: all that changes what is learned."""
        hardware = self.hardware.model_dump(exclude={"processes", "save_steps"})
        return {"hardware": hardware, "augment": self.augment.model_dump(), "seed": self.seed}

    def changed(self, overrides: Mapping[str, Any]) -> Recipe:
        """The recipe with some fields set by their dotted names; the whole is checked again.

        >>> recipe = recipe_of({"catalog": {"path": "offers.jsonl"}, "base": "some/model"})
        >>> recipe.changed({"agcl.max_steps": 7}).agcl.max_steps
        7
        """
        data = self.model_dump()
        for name, value in overrides.items():
            override(data, name, value)
        return recipe_of(data)


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of a shipped one, by the path of a YAML file, or from plain dicts.

    Args:
        overrides: dotted field names and values, {"agcl.max_steps": 50}.

    Raises:
        InputError: no such recipe, not YAML, an unknown key (with the nearest known one), a value that is not allowed;
            all faults at once.
    """
    overrides = overrides or {}
    if isinstance(source, Recipe):
        return source.changed(overrides) if overrides else source
    check_type("run: recipe", source, (str, Path, Mapping), "a recipe's name, its YAML file, nested dicts, or a Recipe")
    file = RecipeFile({**source}, "recipe") if isinstance(source, Mapping) else read_recipe(source)
    return recipe_of(file.with_overrides(overrides), where=file.where)


def recipe_of(data: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """A Recipe of nested dicts.

    >>> recipe_of({"catalog": {"path": "offers.jsonl"}, "base": "some/model", "agcl": {"max_step": 3}})
    Traceback (most recent call last):
    afmrl.errors.InputError: recipe: unknown key 'agcl.max_step'; did you mean 'max_steps'?
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        found = fault_lines(error, Recipe)
        if len(found) == 1:
            raise InputError(f"{where}: {found[0]}") from None
        lines = "".join(f"\n  - {line}" for line in found)
        raise InputError(f"{where}: {len(found)} things are wrong:{lines}") from None
