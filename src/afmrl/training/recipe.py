"""A recipe: everything a run needs, as dataclasses and as YAML; every field can be overridden by its dotted name."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from afmrl.attributes.attributes_on import ATTRIBUTES_ON
from afmrl.errors import InputError
from afmrl.training.config import LEARN, AGCLStage, CITStage, RARStage, SFTStage

ROWS = ("text", "image", "untrained", "agcl", "sft", "rar", "perfect")
"""Rows of the table; "cit" joins them where there are rounds."""


@dataclass
class SampleSection:
    """The sample catalog, drawn when the run starts."""

    families: dict[str, int] = field(default_factory=lambda: {"train": 240, "reward": 60, "val": 30, "test": 100})
    """Families a split; each holds `num_siblings` products."""
    num_siblings: int = 5
    """Near-identical products a family."""
    image_size: int = 56
    """Side of an image in pixels."""
    seed: int = 0
    """Seed of the catalog."""


@dataclass
class PositivesSection:
    """What says that two offers are the same product. Name exactly one."""

    column: str | None = "product_id"
    """A column whose equal values mean the same product (product_id, gtin, …)."""
    pairs: str | None = None
    """A JSONL file of `left`, `right` (offer ids) and, optionally, `label` (0 or 1)."""


@dataclass
class SplitSection:
    """Which offers train, reward, validate, test."""

    column: str | None = "split"
    """Column that names the split."""
    shared: str | None = None
    """Value of that column whose offers stand in every split: one catalog that photographs of known products are
    looked up in. Train and test then hold the same products, which is refused else, and their queries differ."""
    by: str | None = None
    """Instead of a split column: a column (family, style) whose values are dealt out whole, by `fractions`."""
    fractions: dict[str, float] = field(
        default_factory=lambda: {"train": 0.7, "reward": 0.1, "val": 0.05, "test": 0.15}
    )
    """Share of the values of `by` that each split gets."""
    seed: int = 0
    """Seed of the dealing."""


@dataclass
class LabelSection:
    """Where the key attributes that the generator learns from come from."""

    column: str = "attributes"
    """Column that holds them, a dict an offer: only what can be read off that offer's own image and text."""
    keys: list[str] | None = None
    """Keep only these keys, in this order."""
    shared: list[str] = field(default_factory=list)
    """Keys that every offer of a product takes over from the product's other offers (a color that the image
    shows but only one seller wrote down)."""


@dataclass
class CatalogSection:
    """The offers of a run: a file of one's own, or the sample catalog."""

    path: str | None = None
    """JSONL, CSV, TSV or Parquet; relative to the recipe."""
    sample: SampleSection | None = None
    """Draw the sample catalog instead."""
    positives: PositivesSection = field(default_factory=PositivesSection)
    """What says that two offers are the same product."""
    split: SplitSection = field(default_factory=SplitSection)
    """Which offers train, reward, validate, test."""
    labels: LabelSection = field(default_factory=LabelSection)
    """Key attributes to learn from."""
    role_column: str = "role"
    """Column that says "query" or "gallery"; where it is empty, a product's first offer is its query."""
    family_column: str | None = "family_id"
    """Column of near-identical siblings: intervals are bootstrapped over it."""
    max_bad: float = 0.01
    """Share of rows that may be skipped as unreadable."""


@dataclass
class TinySection:
    """The tiny default model, built and pretrained at the start of the run."""

    vocab_size: int = 2048
    """Tokens at most."""
    hidden_size: int = 128
    """Width of the text model."""
    num_layers: int = 4
    """Layers of the text model."""
    vision_layers: int = 2
    """Layers of the vision tower."""
    image_side: int = 84
    """Larger images are brought down to the area of a square of this side; 28 × 28 pixels become one token."""
    own_words: bool = True
    """Whether the tokenizer learns the run's own titles and labels beside the sample's; if not, own names come in
    pieces, as names do that are first met after training, and the model depends on nothing of the catalog."""
    pretrain: SFTStage = field(default_factory=SFTStage)
    """Short pretraining on image + title → visible attributes, as the real models come pretrained."""
    sample: SampleSection | None = None
    """Pretrain on a sample catalog of its own; None: on the run's training offers."""


@dataclass
class EvaluationSection:
    """How the run is measured."""

    batch_size: int = 64
    """Offers embedded or generated for at a time."""
    num_resamples: int = 2000
    """Bootstrap resamples."""
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    """Rows of the table."""
    floors: list[str] = field(default_factory=list)
    """Baselines without learning to print beside: tfidf, color, tfidf+color, bm25."""
    fuse: bool = False
    """Learn the weights of BM25 + dense on the training split and store them beside the embedder."""
    cards: int = 24
    """Queries shown in the report."""
    max_new_tokens: int = 64
    """Tokens a generated attribute string may take."""


@dataclass
class Recipe:
    """One run: catalog → SFT → AGCL → RAR → CIT, if asked → evaluation."""

    name: str = "run"
    """Title of the report."""
    seed: int = 0
    """Added to every stage's own seed."""
    world_size: int | None = None
    """Processes that the run must have (torchrun --nproc_per_node); None: as many as there are."""
    catalog: CatalogSection = field(default_factory=CatalogSection)
    """The offers."""
    base: str | None = None
    """Model that the embedder starts from: a folder or a hub name (the paper: Qwen/Qwen2-VL-2B-Instruct)."""
    generator_base: str | None = None
    """Model that the generator starts from (the paper: Qwen/Qwen2.5-VL-3B-Instruct); None: `base`."""
    tiny: TinySection | None = None
    """Build the tiny default model instead of naming a base."""
    sft: SFTStage = field(default_factory=SFTStage)
    """Generator, supervised."""
    agcl: AGCLStage = field(default_factory=AGCLStage)
    """Embedder, contrastive."""
    rar: RARStage = field(default_factory=RARStage)
    """Generator, rewarded by retrieval."""
    cit: CITStage = field(default_factory=CITStage)
    """Embedder again, on attributes that the rewarded generator wrote."""
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    """The table and the report."""


PATHS = ("catalog.path", "catalog.positives.pairs", "sft.teacher", "sft.prompt.attribute_schema")
"""Fields that name files: in a recipe relative to it, on the command line relative to the working folder."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, with `section.field=value` overrides (values are YAML).

    Raises:
        InputError: no such file, not YAML, an unknown key (with the nearest known one), a value of a wrong type.
    """
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"recipe {path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {path}: is not UTF-8 text; give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise InputError(f"recipe {path}: is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"recipe {path}: holds {type(data).__name__}, expected sections such as 'catalog:'")
    for override in overrides:
        _override(data, override)
    recipe = recipe_of(data, where=str(path))
    if recipe.catalog.path:
        recipe.catalog.path = _beside(path, recipe.catalog.path)
    if recipe.catalog.positives.pairs:
        recipe.catalog.positives.pairs = _beside(path, recipe.catalog.positives.pairs)
    if recipe.sft.teacher:
        recipe.sft = recipe.sft.model_copy(update={"teacher": _beside(path, recipe.sft.teacher)})
    if recipe.sft.prompt.attribute_schema not in (None, LEARN):
        prompt = recipe.sft.prompt.model_copy(
            update={"attribute_schema": _beside(path, recipe.sft.prompt.attribute_schema)}
        )
        recipe.sft = recipe.sft.model_copy(update={"prompt": prompt})
    return recipe


def recipe_of(data: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """A Recipe of nested dicts.

    >>> recipe_of({"agcl": {"max_step": 3}})
    Traceback (most recent call last):
    afmrl.errors.InputError: recipe: unknown key 'agcl.max_step'; did you mean 'max_steps'?
    """
    from pydantic import TypeAdapter, ValidationError

    _refuse_unknown(data, Recipe, "", where)
    try:
        recipe = TypeAdapter(Recipe).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        if first["type"] == "literal_error":
            options = first["ctx"]["expected"].replace("' or '", "', '").replace("'", "")
            raise InputError(f"{where}: '{name}': {first['input']!r} is unknown; one of {options}") from error
        raise InputError(f"{where}: '{name}': {first['msg']} (given: {first.get('input')!r})") from error
    _refuse_values(recipe, where)
    if (recipe.catalog.path is None) == (recipe.catalog.sample is None):
        raise InputError(f"{where}: 'catalog' needs either 'path' (your own offers) or 'sample' (drawn ones)")
    if (recipe.base is None) == (recipe.tiny is None):
        raise InputError(f"{where}: name either 'base' (a model's folder or hub name) or 'tiny' (the default model)")
    if bool(recipe.catalog.positives.pairs) == bool(recipe.catalog.positives.column):
        raise InputError(
            f"{where}: 'catalog.positives' needs exactly one of 'column' (product_id, gtin, …) and 'pairs' (a file); "
            "with 'pairs' set 'column: null'"
        )
    return recipe


def _refuse_values(recipe: Recipe, where: str) -> None:
    """What would else only be found out by the stage that reads it, perhaps hours later."""
    for name, value, options in (
        ("agcl.attributes_on", [recipe.agcl.attributes_on], ATTRIBUTES_ON),
        ("agcl.text_attributes", [recipe.agcl.text_attributes], ("targets", "generated")),
        ("agcl.directions", recipe.agcl.directions, ("query_to_doc", "doc_to_query")),
        ("agcl.weighting", [recipe.agcl.weighting], ("bm25", "cosine", "none")),
        ("agcl.scaling", [recipe.agcl.scaling], ("raw", "row", "corpus")),
        ("agcl.rules", recipe.agcl.rules, ("agreement", "margin", "closeness", "label")),
        ("agcl.combine", [recipe.agcl.combine], ("any", "all")),
        ("agcl.dtype", [d for d in [recipe.agcl.dtype] if d], ("bfloat16", "float32")),
        ("sft.targets", [recipe.sft.targets], ("catalog", "teacher", "both")),
        ("sft.dtype", [d for d in [recipe.sft.dtype] if d], ("bfloat16", "float32")),
        ("rar.reward", [recipe.rar.reward], ("recall@k", "reciprocal_rank", "ndcg@k", "rank_gain", "margin")),
        ("rar.loss_type", [recipe.rar.loss_type], ("grpo", "dapo", "bnpo", "dr_grpo", "cispo")),
        ("rar.scale_rewards", [recipe.rar.scale_rewards], ("group", "batch", "none")),
        ("rar.rewarded_pairs", [recipe.rar.rewarded_pairs], ("true", "all")),
        ("rar.gallery_attributes", [recipe.rar.gallery_attributes], ("targets", "generated")),
        ("rar.attributes_on", [s for s in [recipe.rar.attributes_on] if s], ("query", "gallery", "both")),
        ("cit.init", [recipe.cit.init], ("scratch", "continue")),
        ("cit.guidance", [recipe.cit.guidance], ("written", "before")),
        ("evaluation.rows", recipe.evaluation.rows, ROWS),
        ("evaluation.floors", recipe.evaluation.floors, ("tfidf", "color", "tfidf+color", "bm25")),
    ):
        for one in value:
            if one not in options:
                raise InputError(f"{where}: '{name}': {one!r} is unknown; one of {', '.join(options)}")
    if "query_to_doc" not in recipe.agcl.directions:
        raise InputError(f"{where}: 'agcl.directions': {list(recipe.agcl.directions)} must hold 'query_to_doc'")
    in_text = [
        ("agcl.text_attributes", recipe.agcl.text_attributes == "generated"),
        ("cit.guidance", recipe.cit.guidance == "before"),
    ]
    for name, shown in in_text:
        if shown and recipe.agcl.attributes_on == "none":
            raise InputError(f"{where}: '{name}' needs attributes in the text, and 'agcl.attributes_on' is 'none'")
    told, shown_on = recipe.rar.attributes_on, recipe.agcl.attributes_on
    if told and told != shown_on and shown_on in ("query", "gallery"):
        raise InputError(
            f"{where}: 'rar.attributes_on' is {told!r}, and 'agcl.attributes_on' {shown_on!r}: the embedder would read "
            "attributes where it never saw any; leave rar.attributes_on out"
        )
    pretrain = [("tiny.pretrain", recipe.tiny.pretrain)] if recipe.tiny else []
    stages: list[tuple[str, SFTStage | AGCLStage | RARStage]] = [("sft", recipe.sft), ("agcl", recipe.agcl), *pretrain]
    least = [(f"{name}.max_steps", stage.max_steps, 1) for name, stage in stages]
    least += [(f"{name}.batch_size", stage.batch_size, 1) for name, stage in stages if not isinstance(stage, RARStage)]
    least += [(f"{name}.log_steps", stage.log_steps, 1) for name, stage in stages if not isinstance(stage, RARStage)]
    least += [
        ("seed", recipe.seed, 0),
        ("sft.micro_batch_size", 1 if recipe.sft.micro_batch_size is None else recipe.sft.micro_batch_size, 1),
        ("rar.max_steps", recipe.rar.max_steps, 0),
        ("rar.num_generations", recipe.rar.num_generations, 2),
        ("rar.prompts_per_step", recipe.rar.prompts_per_step, 1),
        ("rar.num_iterations", recipe.rar.num_iterations, 1),
        ("rar.sft_batch_size", recipe.rar.sft_batch_size, 1),
        ("rar.max_completion_length", recipe.rar.max_completion_length, 1),
        ("rar.k", 1 if recipe.rar.k is None else recipe.rar.k, 1),
        ("rar.eval_steps", recipe.rar.eval_steps or 0, 0),
        ("rar.patience", recipe.rar.patience, 0),
        ("rar.score_block_bytes", recipe.rar.score_block_bytes, 1),
        ("cit.rounds", recipe.cit.rounds, 0),
        ("evaluation.batch_size", recipe.evaluation.batch_size, 1),
        ("evaluation.num_resamples", recipe.evaluation.num_resamples, 1),
    ]
    for name, number, minimum in least:
        if number < minimum:
            raise InputError(f"{where}: '{name}': {number} is too few; at least {minimum}")
    for name, stage in (*stages, ("rar", recipe.rar)):
        for key in ("temperature", "learning_rate", "faithfulness_beta"):
            if not getattr(stage, key, 1.0) > 0:
                raise InputError(f"{where}: '{name}.{key}': {getattr(stage, key)} must be above 0")
    completions = recipe.rar.prompts_per_step * recipe.rar.num_generations
    if (micro := recipe.rar.micro_batch_size) is not None and (micro < 1 or completions % micro):
        raise InputError(
            f"{where}: 'rar.micro_batch_size': {micro} must divide prompts_per_step × num_generations = {completions}"
        )
    for key in ("similar_share", "attribute_dropout", "one_sided", "value_dropout", "across_roles"):
        if not 0 <= getattr(recipe.agcl, key) <= 1:
            raise InputError(f"{where}: 'agcl.{key}': {getattr(recipe.agcl, key)} is no share; between 0 and 1")
    for name, changes in (("sft", recipe.sft.augment), ("agcl", recipe.agcl.augment)):
        for key, value in changes.model_dump().items():
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{where}: '{name}.augment.{key}': {value} is no share; between 0 and 1")
    if (recipe.sft.targets == "catalog") != (recipe.sft.teacher is None):
        raise InputError(
            f"{where}: 'sft.teacher' names labels and 'sft.targets' says to use them (teacher or both); "
            f"targets={recipe.sft.targets!r}, teacher={recipe.sft.teacher!r}"
        )
    own = recipe.sft.targets != "teacher" and recipe.catalog.labels.column == "attributes"
    if recipe.sft.prompt.show_sellers_attributes and own:
        raise InputError(
            f"{where}: 'sft.prompt.show_sellers_attributes' shows what 'sft.targets' {recipe.sft.targets!r} asks for, "
            "and the generator would learn to copy it; take a teacher's labels, or another 'catalog.labels.column'"
        )
    plain = SFTStage()
    if recipe.tiny and (recipe.tiny.pretrain.targets, recipe.tiny.pretrain.prompt) != (plain.targets, plain.prompt):
        raise InputError(f"{where}: 'tiny.pretrain' has the sample's labels and the default prompt; leave both out")
    if not 0 <= recipe.cit.share <= 1:
        raise InputError(f"{where}: 'cit.share': {recipe.cit.share} is no share; between 0 (the control) and 1")
    if recipe.cit.rounds and recipe.rar.max_steps == 0:
        raise InputError(f"{where}: 'cit.rounds' needs a generator that RAR trained; set 'rar.max_steps' above 0")
    if not recipe.evaluation.rows:
        raise InputError(f"{where}: 'evaluation.rows' is empty; name at least one of {', '.join(ROWS)}")


def _beside(recipe_path: Path, path: str) -> str:
    return path if Path(path).is_absolute() else str((recipe_path.parent / path).resolve())


def _override(data: dict[str, Any], override: str) -> None:
    import yaml

    name, separator, value = override.partition("=")
    if not separator:
        raise InputError(f"override {override!r}: expected section.field=value")
    name = name.strip().lstrip("-").replace("-", "_")
    *sections, last = name.split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            data[section] = {}
        data = data[section]
    try:
        given = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {override!r}: the value is not YAML") from error
    if name in PATHS and isinstance(given, str):
        given = (
            given if name == "sft.prompt.attribute_schema" and given == LEARN else str(Path(given).resolve())
        )  # typed in a shell: relative to where it was typed, not to the recipe
    data[last] = given


def _refuse_unknown(data: Mapping[str, Any], kind: type, prefix: str, where: str) -> None:
    known = typing.get_type_hints(kind)
    for key, value in data.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"{where}: unknown key '{prefix}{key}'; {hint}")
        nested = _dataclass_in(known[key])
        if nested and isinstance(value, Mapping):
            _refuse_unknown(value, nested, f"{prefix}{key}.", where)


def _dataclass_in(annotation: Any) -> type | None:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next(
        (o for o in options if isinstance(o, type) and (dataclasses.is_dataclass(o) or issubclass(o, BaseModel))), None
    )
