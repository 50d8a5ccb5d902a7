"""What SFT teaches a generator: the offers that have targets, the targets, and their prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import traits
from afmrl.attributes.schema import AttributeSchema
from afmrl.attributes.schema_learning import learn_schema
from afmrl.attributes.words import tokenize
from afmrl.bulk.written_attributes import read_key_attributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training.config import LEARN, SFTStage


@dataclass(frozen=True)
class TeachingSet:
    """Offers, the key attributes to write of each, and the prompt; None: the base's own."""

    offers: Sequence[Offer] = ()
    targets: Sequence[KeyAttributes] = ()
    prompt: GeneratorPrompt | None = None


def teaching_set(config: SFTStage, offers: Sequence[Offer], catalog_targets: Sequence[KeyAttributes]) -> TeachingSet:
    """Offers, targets and prompt for `run_sft`, as `config` says.

    Offers without a target are left out, for an unknown target is not "none": of the catalog those without attributes,
    of a teacher those that it has no valid answer for ("none" is one), and those that the schema empties.

    Args:
        catalog_targets: the catalog's own; an empty one is unknown.

    Returns:
        The prompt is None where nothing of `config.prompt` is set.

    Raises:
        InputError: the teacher's targets cannot be read or name none of the offers, there is no such schema, or it
            leaves nothing of any target.
    """
    teacher = teacher_targets(config)
    if teacher is not None and not any(offer.id in teacher for offer in offers):
        raise InputError(
            f"sft.teacher {config.teacher}: has attributes for none of the {len(offers)} training offers; are the ids "
            "the same?"
        )
    known = known_targets(config, offers, catalog_targets, teacher)
    kept = [offer for offer, target in zip(offers, known, strict=True) if target is not None]
    targets = [target.within_limits() for target in known if target is not None]  # a longer one would be invalid
    options = config.prompt
    schema = None
    if options.attribute_schema == LEARN:
        schema = learn_schema(kept, targets)
    elif options.attribute_schema is not None:
        schema = AttributeSchema.load(options.attribute_schema)
    if schema is not None:
        applied = [schema.apply(target, offer.category) for offer, target in zip(kept, targets, strict=True)]
        rows = [row for row, target in enumerate(applied) if len(target) or not len(targets[row])]
        if not any(applied):
            keys = ", ".join(list(dict.fromkeys(key for target in targets for key, _ in target))[:8])
            raise InputError(
                f"sft.prompt.attribute_schema {options.attribute_schema}: has none of the targets' keys, which are "
                f"{keys}"
            )
        kept, targets = [kept[row] for row in rows], [applied[row] for row in rows]
    prompt = GeneratorPrompt(
        description=options.description,
        category=options.category,
        show_sellers_attributes=options.show_sellers_attributes,
        schema=schema,
    )
    return TeachingSet(kept, targets, None if prompt == GeneratorPrompt() else prompt)


def teacher_targets(config: SFTStage) -> dict[str, KeyAttributes] | None:
    """The teacher's valid targets by offer id, without prices, stock, ids and GTINs; None where the catalog's own are
    learned.

    Raises:
        InputError: they cannot be read.
    """
    if config.teacher is None:
        return None
    return {identifier: traits(target) for identifier, target in read_key_attributes(config.teacher).items()}


def known_targets(
    config: SFTStage,
    offers: Sequence[Offer],
    catalog_targets: Sequence[KeyAttributes],
    teacher: Mapping[str, KeyAttributes] | None,
) -> list[KeyAttributes | None]:
    """The target of each offer, None where it is unknown.

    With `targets: both` an offer has the teacher's pairs, then those pairs of the catalog whose key the teacher left
    out and whose value the title says; without a valid answer of the teacher the catalog's.

    Args:
        catalog_targets: the catalog's own; an empty one is unknown.
        teacher: of `teacher_targets`.
    """
    own = [target if len(target) else None for target in catalog_targets]
    if teacher is None:
        return own
    if config.targets == "teacher":
        return [teacher.get(offer.id) for offer in offers]
    return [
        _both(teacher[offer.id], target or KeyAttributes(), offer) if offer.id in teacher else target
        for offer, target in zip(offers, own, strict=True)
    ]


def _both(teacher: KeyAttributes, own: KeyAttributes, offer: Offer) -> KeyAttributes:
    words = set(tokenize(offer.title))
    readable = [(key, value) for key, value in own if tokenize(value) and words.issuperset(tokenize(value))]
    return KeyAttributes.of([*teacher, *readable])  # the first of a key counts
