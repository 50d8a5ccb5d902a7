"""What can be set of each stage: pydantic models, apart from the stages that they configure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from afmrl.attributes.attributes_on import AttributesOn
from afmrl.losses.options import Combine, Direction, Rule, Scaling, Weighting
from afmrl.rewards.options import RewardedPairs, RewardKind

LEARN = "learn"
"""As `PromptOptions.attribute_schema`: learn it."""


class Config(BaseModel):
    """Settings that are made whole: unknown names are refused, and nothing is changed afterwards.

    `config.model_copy(update={...})` gives another one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Augmentation(Config):
    """What may happen to an offer that a stage trains on; as it stands here, nothing does."""

    crop: float = 0.0
    """Share of the images that are cut down to a random part."""
    smallest_crop: float = 0.4
    """Least share of the image's width and of its height that a cut leaves."""
    mirror: bool = False
    """Whether half of the images are turned left to right."""
    light: float = 0.0
    """Brightness of each image is multiplied by a factor between 1 - light and 1 + light."""
    contrast: float = 0.0
    """The same for contrast and, by a factor of its own, for saturation."""
    tint: float = 0.0
    """Each of red, green and blue is multiplied by a factor between 1 - tint and 1 + tint: another lamp, another
    camera."""
    rotate: float = 0.0
    """Share of the images that are turned by up to 25 degrees to either side."""
    blur: float = 0.0
    """Share of the images that lose their fine detail."""
    erase: float = 0.0
    """Share of the images of which a rectangle is covered, up to half as wide and as high as the image."""
    hide_values: float = 0.0
    """Share of the titles that lose the words of their own label, where an image shows what they said."""
    word_dropout: float = 0.0
    """Share of a title's words that are left out."""
    rename: float = 0.0
    """Share of the words of all titles of a batch (labels' values stay) that are replaced by invented ones, the same
    in the whole batch: names are matched that were never seen."""


class PairAugmentation(Augmentation):
    """The same for pairs of one product."""

    hue: float = 0.0
    """Share of the pairs whose two images are turned by the same random angle of hue: a product in a color of its
    own, whose texts then name no value of its label."""
    hide_candidates: float | None = None
    """`hide_values` of the second side (the gallery's, at retrieval); None: as on the first."""


class LabelAugmentation(Augmentation):
    """The same for a generator's training."""

    invent_values: float = 0.0
    """Share of the offers whose title and label get invented words and numbers in place of the label's values that
    the title holds, so that recalling known values does not suffice. Measured on the tiny default: no gain
    (docs/generator.md). Not for values that images show: the image would contradict them."""


class PromptOptions(Config):
    """What the generator is shown of an offer beside title and image; it is saved with the model."""

    description: bool = False
    """The description."""
    category: bool = False
    """The category."""
    show_sellers_attributes: bool = False
    """What the seller wrote as attributes, named as the seller's. Not where these are the labels too."""
    attribute_schema: str | None = None
    """Keys of the offer's category: a schema's file (YAML, JSON), or "learn": those that best tell the training
    offers apart. Labels are brought to its keys and spelling."""


class SFTStage(Config):
    """How the generator is trained on labels (the paper: all parameters of Qwen2.5-VL-3B)."""

    targets: Literal["catalog", "teacher", "both"] = "catalog"
    """Whose key attributes are learned: "catalog" (what catalog.labels names: the sellers'), "teacher", or "both" (the
    teacher's, completed by what of the catalog's the title says)."""
    teacher: str | None = None
    """A teacher's labels: the folder that `afmrl attributes` wrote, or a JSONL file of `id` and `key_attributes`."""
    prompt: PromptOptions = Field(default_factory=PromptOptions)
    """What the generator is shown."""
    max_steps: int = 300
    """Optimiser steps."""
    batch_size: int = 64
    """Offers a batch, of all processes together."""
    micro_batch_size: int | None = None
    """Offers of one process in one backward pass; None: its whole share of the batch. Memory is that of so many."""
    gradient_accumulation_steps: int = 1
    """Batches summed before a step."""
    learning_rate: float = 1e-3
    """Peak learning rate, then down to 0 by a cosine."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    lora_r: int | None = None
    """LoRA rank; None trains all parameters."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of the base's weights: "float32" where all parameters are trained, since bfloat16 loses small updates; None: as
    they were saved."""
    max_pixels: int | None = None
    """Larger images are brought down to this many pixels, then and ever after; None: the base's own bound."""
    bf16: bool = False
    """Train in bfloat16 autocast."""
    gradient_checkpointing: bool = False
    """Recompute activations: slower, less memory."""
    seed: int = 0
    """Seed of order and dropout."""
    augment: LabelAugmentation = Field(default_factory=LabelAugmentation)
    """How images and titles are varied, for catalogs of few offers."""
    save_steps: int = 200
    """Steps between checkpoints, from which a killed run goes on."""
    log_steps: int = 20
    """Steps between entries of the training curve."""


class AGCLStage(Config):
    """How the embedder is trained; the paper's base recipe (VLM2Vec) is LoRA r=16, τ=0.02, batch 1,024, lr 5e-5."""

    max_steps: int = 400
    """Optimiser steps."""
    batch_size: int = 128
    """Pairs a step, of all processes together; every other candidate of the batch is a negative."""
    mini_batch_size: int | None = None
    """Pairs that a process embeds at a time (GradCache): memory of a mini-batch, negatives of the batch. None: all at
    once."""
    keep_bytes: int = 64 * 2**20
    """Of each side's preprocessed inputs, bytes that wait in memory for GradCache's second pass; those beyond are
    decoded again, so that memory does not grow with the batch. Larger is faster."""
    learning_rate: float = 5e-4
    """Peak learning rate, then linear to 0."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    temperature: float = 0.05
    """τ of the cosine logits."""
    weighting: Weighting = "bm25"
    """"bm25" (AGCL), "cosine" (LLaVE), "none" (InfoNCE)."""
    weight_positive: bool = True
    """Whether the positive's logit carries its weight too, as published."""
    gain: float = 1.0
    """A factor on the exponent of the weight."""
    scaling: Scaling = "raw"
    """BM25 inside tanh: "raw" (published), or divided by the "row"'s or the "corpus"' maximum."""
    rules: tuple[Rule, ...] = ("agreement",)
    """False-negative rules: any of "agreement", "margin", "closeness", "label"."""
    combine: Combine = "any"
    """Whether "any" or "all" of the rules must call a candidate a false negative."""
    margin: float = 0.1
    """δ of the margin and closeness rules, in cosine."""
    agreement_min_shared: int = 4
    """Keys that two offers must share before agreeing attributes call them the same product."""
    attributes_on: AttributesOn = "both"
    """Which sides read key attributes in their text: "none", "query", "gallery" (a query then needs no generator),
    "both"."""
    text_attributes: Literal["targets", "generated"] = "targets"
    """Which attributes the text shows in training: "targets", or "generated", what the SFT generator writes of each
    offer, with the mistakes that it will make at retrieval too. Targets draw batches, weigh and filter either way."""
    attribute_dropout: float = 0.5
    """Share of pairs that are trained without attributes in the text, so that the embedder works with and without;
    of the others the sides lose theirs independently once in `one_sided`."""
    one_sided: float = 0.2
    """Share of the attributed pairs of which only one side shows its attributes."""
    value_dropout: float = 0.1
    """Share of the shown pairs `key: value` that are left out, as a generator leaves some out."""
    directions: tuple[Direction, ...] = ("query_to_doc",)
    """"query_to_doc" (published): each anchor finds its candidate; with "doc_to_query" each candidate its anchor, too,
    and the loss is the mean of both."""
    similar_group: int = 8
    """Products of similar attributes that enter a batch together; 1: batches are drawn at random."""
    similar_share: float = 1.0
    """Share of the batches that are drawn so; the others are random, which keeps what tells categories apart."""
    group_column: str | None = None
    """Instead of attributes: a column (family, style) whose equal values make products similar."""
    self_pairs: bool = False
    """Whether a product of a single offer is paired with itself; without augmentation it is then equal on both
    sides."""
    across_roles: float = 0.0
    """Share of the pairs whose anchor is a query and whose candidate a gallery offer, as at retrieval, where a product
    has both; the others are any two of its offers."""
    augment: PairAugmentation = Field(default_factory=PairAugmentation)
    """How images and titles are varied, for catalogs of few offers."""
    lora_r: int | None = None
    """LoRA rank; None trains all parameters (the tiny default)."""
    lora_alpha: int | None = None
    """LoRA's scaling times its rank; None: twice the rank."""
    lora_dropout: float = 0.0
    """Dropout in front of the LoRA layers."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of the base's weights, "bfloat16" or "float32"; LoRA's own are float32 always. None: as they were saved."""
    max_pixels: int | None = None
    """Larger images are brought down to this many pixels, then and ever after; None: the base's own bound."""
    max_seq_length: int | None = None
    """Tokens of an offer, those of its image counted, beyond which its text is cut off; None: the base's own."""
    bf16: bool = False
    """Train in bfloat16 autocast."""
    gradient_checkpointing: bool = False
    """Recompute activations: slower, less memory. Beside GradCache it allows larger mini-batches."""
    seed: int = 0
    """Seed of pairs, batches and dropout."""
    save_steps: int = 100
    """Steps between checkpoints, from which a killed run goes on."""
    log_steps: int = 10
    """Steps between entries of the training curve."""


class RARStage(Config):
    """How the generator is reinforced. G, ε, β and lr are not published; these are UME-R1's, lr fitted to the tiny."""

    max_steps: int = 100
    """GRPO steps; 0 leaves the stage out."""
    num_generations: int = 8
    """G, completions of a group."""
    prompts_per_step: int = 12
    """Queries a step."""
    micro_batch_size: int | None = None
    """Completions in one backward pass, of all processes together; None: all of a step."""
    learning_rate: float = 1e-4
    """Peak learning rate, then linear to 0 (UME-R1: 1e-6 for 2 billion parameters)."""
    warmup_steps: int = 5
    """Steps of linear warm-up."""
    beta: float = 0.04
    """Weight of the KL to the SFT policy."""
    epsilon: float = 0.2
    """Clip of the ratio; it acts where completions are used again (num_iterations > 1)."""
    num_iterations: int = 1
    """Passes over one step's completions."""
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo", "cispo"] = "grpo"
    """trl's loss: "grpo" (the paper's), "dapo", …"""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the std of the "group", the "batch", or "none"."""
    temperature: float = 1.0
    """Of sampling."""
    max_completion_length: int = 64
    """Tokens; a completion cut off there is invalid."""
    reward: RewardKind = "reciprocal_rank"
    """"recall@k" (the paper's), "reciprocal_rank", "ndcg@k", "rank_gain", "margin"."""
    k: int | None = None
    """Of recall@k; None: the smallest at which the SFT generator's valid samples on the reward split reach Recall@k of
    0.5."""
    invalid_reward: float = -0.1
    """Reward of a completion that is no list of key attributes, on top of the least that a valid one earns."""
    faithfulness_weight: float = 0.3
    """Weight of the F score against what can be seen and read, which holds attributes true; 0: retrieval alone
    (the paper)."""
    faithfulness_beta: float = 1.0
    """How much more recall counts in it than precision. With 1 (F1) it pays to leave out a key that is right in fewer
    than about four of ten offers; with 2, in fewer than about one of six."""
    sft_weight: float = 1.0
    """Weight of SFT's loss on the offers that SFT learned from, beside the reward, so that attributes stay true; 0: the
    reward alone (the paper). Measured by benchmarks/rar_truth.py."""
    sft_batch_size: int = 32
    """Labeled offers a step, of all processes together."""
    length_weight: float = 0.0
    """Taken off for each pair written."""
    rewarded_pairs: RewardedPairs = "true"
    """What of a completion retrieves: "true", the pairs that the labels of the query confirm, so that a false one
    earns nothing whatever it finds; or "all" (the paper's). Without any labels it is "all"."""
    attributes_on: Literal["query", "gallery", "both"] | None = None
    """Which sides of the reward's retrieval carry attributes: "query", a completion stands behind its query; "both",
    and the gallery's texts carry attributes too; "gallery", a completion describes an offer of the gallery, and its
    product's queries, without attributes, rank it. None: the sides that AGCL showed. An embedder that hardly saw
    attributes on one side alone may find plain text best there, and the reward then asks for silence."""
    gallery_attributes: Literal["targets", "generated"] = "generated"
    """What the text of the reward's gallery carries where it carries any: "targets", what can be
    seen and read of each offer; "generated", what the SFT generator writes. A value that the generator often misreads
    stands wrong in half of a generated gallery, and a query that tells the truth is then further from its product."""
    score_block_bytes: int = 64_000_000
    """Memory of the scoring beside the gallery's embeddings, whatever their number."""
    teachable_only: bool = True
    """Train on queries whose sampled completions earn different rewards; the others give no gradient. Of queries with
    and without an image the larger kind alone trains: trl does not mix them in a batch."""
    lora_r: int | None = None
    """LoRA rank; None trains all parameters."""
    bf16: bool = False
    """Train in bfloat16 autocast."""
    gradient_checkpointing: bool = False
    """Recompute activations: slower, less memory."""
    eval_steps: int | None = None
    """Steps between measures of retrieval and attributes on the validation split, where there is one; the best step is
    kept, where the reward holds to labels of those that are as true as the SFT policy. None: an eighth of `max_steps`;
    0: never, and the last step is kept."""
    patience: int = 3
    """Measures in a row below the best, while the reward rises, after which training stops; 0: never."""
    seed: int = 0
    """Seed of sampling and order."""
    save_steps: int = 50
    """Steps between checkpoints, from which a killed run goes on."""


class CITStage(Config):
    """How often and how much is written anew (AFMRL: one round of 30 % took accuracy from 88.00 to 89.13).

    What is written anew takes the place of what AGCL's text showed (`agcl.text_attributes`): of the labels, or of what
    the SFT generator wrote.
    """

    rounds: int = 0
    """Rounds; 0 leaves the stage out. From the second on the generator is reinforced again first, in the embedder of
    the round before."""
    share: float = 0.3
    """Of the training offers, those whose attributes are written anew; 0 is the control: AGCL trains as long again, on
    the attributes that it had."""
    init: Literal["scratch", "continue"] = "scratch"
    """Where AGCL starts: "scratch", from the base as in the first round, or "continue", from the embedder of the round
    before, which won more than anything else here (docs/reinforcement.md)."""
    guidance: Literal["written", "before"] = "written"
    """What draws batches, weighs negatives and filters them: "written", the new attributes, as what the text shows; or
    "before", the labels, as in the first training, so that what is written is only what the text shows. Labels are
    truer than the generator, and still the embedder learns to read what it writes. Where the first text was generated
    it is always "before"."""
