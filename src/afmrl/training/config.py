"""What can be set of each stage: pydantic models, apart from the stages that they configure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from afmrl.attributes.attributes_on import AttributesOn
from afmrl.attributes.seller_attributes import DEFAULT_SELLER_ATTRIBUTES, SellerAttributes
from afmrl.losses.options import Direction, Rule, Scaling, Weighting
from afmrl.rewards.options import RewardedPairs, RewardKind

LEARN = "learn"
"""As `PromptOptions.attribute_schema`: learn it."""

Stage = Literal["sft", "agcl", "rar"]
Precision = Literal["float32", "bfloat16"]
Share = Annotated[float, Field(ge=0, le=1)]
AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
# YAML's lists are taken for tuples, which strict validation would refuse
Rules = Annotated[tuple[Rule, ...], Field(strict=False)]
Directions = Annotated[tuple[Direction, ...], Field(strict=False)]
Stages = Annotated[tuple[Stage, ...], Field(strict=False)]
Towers = Annotated[tuple[Literal["text", "image"], ...], Field(strict=False)]


class Config(BaseModel):
    """Settings that are made whole: unknown names are refused, and nothing is changed afterwards.

    `config.model_copy(update={...})` gives another one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def faults(*found: tuple[str, str]) -> PydanticCustomError:
    """What a `model_validator` raises where values do not go together: (field, what is wrong) of each fault."""
    text = "; ".join(f"'{name}': {what}" for name, what in found)
    return PydanticCustomError("faults", "{text}", {"text": text, "faults": list(found)})


class Lora(Config):
    """LoRA: small matrices are trained beside the frozen weights, and merged into them when the stage ends."""

    r: AtLeast1 = 16
    """Rank of the matrices."""
    alpha: AtLeast1 | None = None
    """LoRA's scaling times its rank. Null: twice the rank."""
    dropout: Share = 0.0
    """Dropout in front of the LoRA layers."""
    vision: bool = False
    """Adapt the vision tower too, not the language model alone. If not, it stays as it is, and GradCache runs it once
    an image instead of twice."""
    stages: Stages = ("agcl",)
    """Stages that train so: any of sft, agcl, rar. The others train all parameters."""


class Hardware(Config):
    """What the machine can hold. Results change by rounding alone, except by `max_pixels`, `max_seq_length`, LoRA."""

    precision: Precision = "float32"
    """Type of the computation (autocast), of weights that are not trained (LoRA's base, RAR's reference), of whatever
    writes or embeds, and of the models that are saved. Weights that are trained are always float32 while they are,
    because bfloat16 loses small updates."""
    gradient_checkpointing: bool = False
    """Recompute activations: slower, less memory. Beside GradCache it allows larger mini-batches."""
    max_pixels: AtLeast1 | None = None
    """Larger images are reduced to this many pixels, in training and afterwards. Null: the base's own bound."""
    max_seq_length: AtLeast1 | None = None
    """Tokens of an offer for the embedder, its image included; longer texts are cut. Null: the base's own."""
    save_steps: AtLeast1 = 100
    """Steps between checkpoints, from which a killed run resumes."""
    processes: AtLeast1 | None = None
    """Processes that the run must have (torchrun --nproc_per_node). Null: as many as there are."""
    lora: Lora | None = None
    """Train some stages by LoRA; without it every stage trains all parameters."""

    def lora_of(self, stage: Stage) -> Lora | None:
        """LoRA of a stage, None where it trains all parameters."""
        return self.lora if self.lora is not None and stage in self.lora.stages else None

    def weights_dtype(self, stage: Stage) -> Precision:
        """Type of a stage's base weights: bfloat16 where they are frozen and `precision` says so.

        >>> hardware = Hardware(precision="bfloat16", lora=Lora(stages=("agcl",)))
        >>> hardware.weights_dtype("agcl"), hardware.weights_dtype("sft")
        ('bfloat16', 'float32')
        """
        return "bfloat16" if self.precision == "bfloat16" and self.lora_of(stage) else "float32"


class Augmentation(Config):
    """How training offers are varied, in SFT and in AGCL, for catalogs of few offers. By default nothing is."""

    crop: Share = 0.0
    """Share of the images that are cut down to a random part."""
    smallest_crop: Share = 0.4
    """Least share of the image's width and of its height that a cut leaves."""
    mirror: bool = False
    """Mirror half of the images left to right."""
    light: Share = 0.0
    """Brightness of each image is multiplied by a factor between 1 - light and 1 + light."""
    contrast: Share = 0.0
    """The same for contrast and, by a factor of its own, for saturation."""
    tint: Share = 0.0
    """Each of red, green and blue is multiplied by a factor between 1 - tint and 1 + tint: another lamp, another
    camera."""
    rotate: Share = 0.0
    """Share of the images that are turned by up to 25 degrees to either side."""
    blur: Share = 0.0
    """Share of the images that lose their fine detail."""
    erase: Share = 0.0
    """Share of the images that have a rectangle covered, up to half as wide and as high as the image."""
    hide_values: Share = 0.0
    """Share of the titles that lose the words of their own targets, where an image shows what they said."""
    hide_candidates: Share | None = None
    """In AGCL, `hide_values` of the second offer of a pair (of the gallery, at retrieval). Null: as on the first."""
    word_dropout: Share = 0.0
    """Share of a title's words that are left out."""
    rename: Share = 0.0
    """Share of the words of all titles of a batch, but for values of targets, that are replaced by invented ones, the
    same in the whole batch: names are matched that were never seen."""


class PromptOptions(Config):
    """What the generator is shown of an offer beside title and image. It is saved with the model."""

    description: bool = False
    """Show the description."""
    category: bool = False
    """Show the category."""
    show_sellers_attributes: bool = False
    """Show the seller attributes, named as the seller's. Not where these are the targets too."""
    attribute_schema: str | None = None
    """Keys of the offer's category: a schema's file (YAML, JSON), or "learn", those that best tell the training offers
    apart. Targets are brought to its keys and spelling."""


class SFTStage(Config):
    """How the generator learns to write key attributes (the paper: all parameters of Qwen2.5-VL-3B)."""

    targets: Literal["catalog", "teacher", "both", "rules"] = "catalog"
    """Whose key attributes are learned: "catalog" (what catalog.targets names: the seller's), "teacher", "both" (the
    teacher's, completed by those of the catalog that the title says), or "rules" (what rules read off the titles, also
    where the catalog has none)."""
    teacher: str | None = None
    """A teacher's targets: the folder that `afmrl attributes` wrote, or a JSONL file of `id` and `key_attributes`."""
    prompt: PromptOptions = Field(default_factory=PromptOptions)
    """What the generator is shown."""
    max_steps: AtLeast0 = 300
    """Optimizer steps; 0 leaves the generator out. AdamW with weight decay 0.01, gradients clipped to a norm of 1."""
    batch_size: AtLeast1 = 64
    """Offers a step, of all processes together."""
    micro_batch_size: AtLeast1 | None = None
    """Offers of one process in one backward pass, which memory is for. Null: its whole share of the batch."""
    learning_rate: Positive = 1e-3
    """Peak learning rate, then down to 0 by a cosine."""
    warmup_steps: AtLeast0 = 20
    """Steps of linear warm-up of the learning rate."""

    @model_validator(mode="after")
    def _teacher_goes_with_targets(self) -> SFTStage:
        if (self.targets in ("catalog", "rules")) != (self.teacher is None):
            raise faults(
                (
                    "teacher",
                    "names targets and 'sft.targets' says to use them (teacher or both); "
                    f"targets={self.targets!r}, teacher={self.teacher!r}",
                )
            )
        return self


class AGCLStage(Config):
    """How the embedder is trained. The paper's base recipe (VLM2Vec) is LoRA r=16, τ=0.02, batch 1,024, rate 5e-5."""

    max_steps: AtLeast1 = 400
    """Optimizer steps. AdamW, gradients clipped to a norm of 1."""
    batch_size: AtLeast1 = 128
    """Pairs a step, of all processes together; every other candidate of the batch is a negative."""
    mini_batch_size: AtLeast1 | None = None
    """Pairs that a process embeds at a time (GradCache): memory of a mini-batch, negatives of the batch. Null: all at
    once."""
    learning_rate: Positive = 5e-4
    """Peak learning rate, then linear to 0."""
    warmup_steps: AtLeast0 = 20
    """Steps of linear warm-up of the learning rate."""
    weight_decay: NotNegative = 0.01
    """AdamW's weight decay."""
    frozen_towers: Towers = ()
    """For the small model: "text", "image" or both stay as they are, and what joins them is trained. Features of a
    frozen image tower are computed once, with augmentation of four versions of each image, and kept beside the model
    while it trains. Towers that are not frozen train at a tenth of `learning_rate`."""
    temperature: Positive = 0.02
    """τ of the cosine logits."""
    weighting: Weighting = "bm25"
    """What weighs negatives: "bm25" (AGCL), "cosine" (LLaVE), "none" (InfoNCE)."""
    weight_positive: bool = True
    """Whether the positive's logit carries its weight too, as published."""
    gain: NotNegative = 1.0
    """A factor on the exponent of the weight."""
    scaling: Scaling = "raw"
    """BM25 inside tanh: "raw" (published), or divided by the maximum of the "row" or of the "corpus"."""
    rules: Rules = ("agreement",)
    """False-negative rules: any of "agreement", "margin", "closeness", "label"; each alone suffices."""
    margin: NotNegative = 0.1
    """δ of the margin and closeness rules, in cosine."""
    margin_warmup_steps: AtLeast0 = 0
    """Steps before the margin and closeness rules call anything a false negative. They trust the model's own
    similarities, so a base that was not trained for retrieval (an Instruct model, the tiny default) needs some."""
    reference: bool = False
    """Let the margin and closeness rules trust the untrained base's similarities instead, from the first step on. For a
    base that was trained for retrieval. Every training offer is embedded once more."""
    agreement_min_shared: AtLeast1 = 4
    """Keys that two offers must share before agreeing attributes call them the same product. 4 suits labeled
    attributes; the loss by itself has 3, which suits attributes read from titles."""
    attributes_on: AttributesOn = "both"
    """Whose text carries key attributes: "none", "query", "gallery" (a query then needs no generator), "both"."""
    text_attributes: Literal["targets", "generated"] = "targets"
    """Which attributes the text carries in training: "targets", or "generated", what the SFT generator writes of each
    offer, with the mistakes that it will make at retrieval too. Targets draw batches, weigh and filter either way."""
    seller_attributes: SellerAttributes = DEFAULT_SELLER_ATTRIBUTES
    """Which of what the seller states as attributes stands in the text behind the title, in training and at search, for
    the embedder and for BM25: "identifying" (brand, model number, GTIN, color, size, material, …), "all" but prices,
    stock, ids and links, or "none". Choose "none" where the catalog's attributes are labels, which no offer that is
    searched for will have."""
    attribute_dropout: Share = 0.5
    """Share of pairs that are trained without attributes in the text, so that the embedder works with and without;
    of the others the sides lose theirs independently once in `one_sided`."""
    one_sided: Share = 0.2
    """Share of the attributed pairs in which only one offer carries its attributes."""
    value_dropout: Share = 0.1
    """Share of the pairs `key: value` in the text that are left out, as a generator leaves some out."""
    directions: Directions = ("query_to_doc",)
    """"query_to_doc" (published): each anchor finds its candidate; with "doc_to_query" each candidate its anchor, too,
    and the loss is the mean of both."""
    similar_group: AtLeast1 = 8
    """Products of similar attributes that enter a batch together; 1: batches are drawn at random."""
    similar_share: Share = 1.0
    """Share of the batches that are drawn so; the others are random, which keeps what tells categories apart."""
    group_column: str | None = None
    """Instead of attributes: a column (family, style) whose equal values make products similar."""
    self_pairs: bool = False
    """Whether a product of a single offer is paired with itself; without augmentation it is then equal on both
    sides."""
    across_roles: Share = 0.0
    """Share of the pairs whose anchor is a query and whose candidate a gallery offer, as at retrieval, where a product
    has both; the others are any two of its offers."""

    @field_validator("directions")
    @classmethod
    def _query_to_doc_is_there(cls, directions: tuple[Direction, ...]) -> tuple[Direction, ...]:
        if "query_to_doc" not in directions:
            raise ValueError(f"{list(directions)} must hold 'query_to_doc'")
        return directions

    @model_validator(mode="after")
    def _attributes_are_in_the_text(self) -> AGCLStage:
        if self.text_attributes == "generated" and self.attributes_on == "none":
            raise faults(("text_attributes", "needs attributes in the text, and 'agcl.attributes_on' is 'none'"))
        return self

    @model_validator(mode="after")
    def _margin_rules_are_there(self) -> AGCLStage:
        asked = [name for name in ("margin_warmup_steps", "reference") if getattr(self, name)]
        if asked and not {"margin", "closeness"} & set(self.rules):
            raise faults((asked[0], f"is for the rules margin and closeness, and 'agcl.rules' is {list(self.rules)}"))
        if len(asked) == 2:
            raise faults(("reference", "needs no 'agcl.margin_warmup_steps': it is trusted from the first step on"))
        return self


class RARStage(Config):
    """How the generator is reinforced. Not published: G, β and learning rate. They are UME-R1's, the rate fitted to
    the tiny default. Completions are sampled at temperature 1 and used once."""

    max_steps: AtLeast0 = 100
    """GRPO steps; 0 leaves the stage out."""
    num_generations: Annotated[int, Field(ge=2)] = 8
    """G, completions of a group."""
    prompts_per_step: AtLeast1 = 12
    """Queries a step."""
    micro_batch_size: AtLeast1 | None = None
    """Completions in one backward pass, of all processes together. Null: all of a step."""
    learning_rate: Positive = 1e-4
    """Peak learning rate, then linear to 0 (UME-R1: 1e-6 for 2 billion parameters)."""
    warmup_steps: AtLeast0 = 5
    """Steps of linear warm-up of the learning rate."""
    beta: NotNegative = 0.04
    """Weight of the KL to the SFT policy."""
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo", "cispo"] = "grpo"
    """trl's loss: "grpo" (the paper's), "dapo", …"""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the "group", of the "batch", or by "none"."""
    max_new_tokens: AtLeast1 = 64
    """Tokens that the generator may write of an offer, here and in evaluation. A completion cut off there is invalid
    and earns 0.1 less than the least that a valid one earns."""
    reward: RewardKind = "reciprocal_rank"
    """"recall@k" (the paper's), "reciprocal_rank", "ndcg@k", "rank_gain", "margin"."""
    k: AtLeast1 | None = None
    """Of recall@k and ndcg@k. Null: the smallest at which the SFT generator's valid samples on the reward split reach
    Recall@k of 0.5."""
    faithfulness_weight: NotNegative = 0.3
    """Weight of the F1 score against what can be seen and read, which keeps attributes true; 0: retrieval alone
    (the paper)."""
    sft_weight: NotNegative = 1.0
    """Weight of SFT's loss on the offers that SFT learned from, beside the reward, so that attributes stay true; 0: the
    reward alone (the paper). Measured by benchmarks/rar_truth.py."""
    sft_batch_size: AtLeast1 = 32
    """Offers a step for SFT's loss, of all processes together."""
    rewarded_pairs: RewardedPairs = "true"
    """What of a completion retrieves: "true", the pairs that the query's targets confirm, so that a false one
    earns nothing whatever it finds; or "all" (the paper's). Without any targets it is "all"."""
    attributes_on: Literal["query", "gallery", "both"] | None = None
    """Whose text carries attributes in the reward's retrieval: "query", a completion describes a query; "both",
    and the gallery's texts carry attributes too; "gallery", a completion describes an offer of the gallery, and its
    product's queries, without attributes, rank it. Null: as in AGCL. An embedder that hardly saw attributes on one side
    alone may find plain text best there, and the reward then asks for silence."""
    gallery_attributes: Literal["targets", "generated"] = "generated"
    """What the text of the reward's gallery carries where it carries any: "targets", what can be seen and read of each
    offer; "generated", what the SFT generator writes. A value that the generator often misreads is wrong in half of a
    generated gallery, and a query that tells the truth is then further from its product."""
    teachable_only: bool = True
    """Train on queries whose sampled completions earn different rewards; the others give no gradient. Of queries with
    and without an image the larger kind alone trains: trl does not mix them in a batch."""
    eval_steps: AtLeast0 | None = None
    """Steps between measures of retrieval and attributes on the validation split, where there is one. The best step is
    kept; where the reward uses targets, only of those that are as true as the SFT policy. Null: an eighth of
    `max_steps`; 0: never, and the last step is kept."""
    patience: AtLeast0 = 3
    """Measures in a row below the best, while the reward rises, after which training stops; 0: never."""

    @model_validator(mode="after")
    def _micro_batches_divide_the_step(self) -> RARStage:
        completions, micro = self.prompts_per_step * self.num_generations, self.micro_batch_size
        if micro is not None and completions % micro:
            what = f"{micro} must divide prompts_per_step × num_generations = {completions}"
            raise faults(("micro_batch_size", what))
        return self


class CITStage(Config):
    """How often and how much is written anew (AFMRL: one round of 30 % took accuracy from 88.00 to 89.13).

    What is written anew takes the place of what AGCL's text carried (`agcl.text_attributes`): of the targets, or of
    what the SFT generator wrote.
    """

    rounds: AtLeast0 = 0
    """Rounds; 0 leaves the stage out. From the second on the generator is reinforced again first, in the embedder of
    the round before."""
    share: Share = 0.3
    """Share of the training offers whose attributes are written anew. 0 is the control: AGCL trains as long again, on
    the attributes that it had."""
    init: Literal["scratch", "continue"] = "scratch"
    """Where AGCL starts: "scratch", from the base as in the first round, or "continue", from the embedder of the round
    before, which gained more than anything else here (docs/results/cit.md)."""
    guidance: Literal["written", "before"] = "written"
    """What draws batches, weighs negatives and filters them: "written", the new attributes, which the text carries; or
    "before", the targets, as in the first training, so that what is written is only in the text. Targets are
    truer than the generator, and still the embedder learns to read what it writes. Where the first text was generated
    it is always "before"."""
