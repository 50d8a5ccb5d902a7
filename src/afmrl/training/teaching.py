"""What a generator is taught: the offers that have labels, the labels, and the prompt they go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import AttributeSchema
from afmrl.attributes.schema_learning import learn_schema
from afmrl.attributes.words import tokenize
from afmrl.bulk.written_attributes import read_key_attributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training.config import LEARN, SFTStage

TeachingSet = tuple[Sequence[Offer], Sequence[KeyAttributes], GeneratorPrompt | None]


def teaching_set(config: SFTStage, offers: Sequence[Offer], labels: Sequence[KeyAttributes]) -> TeachingSet:
    """Offers, labels and prompt for `run_sft`, as `config` says.

    Offers that nothing is known of are left out, for nothing said is not "none": of the catalog those without
    attributes, of a teacher those that it has no valid answer for ("none" is one), and those of which the schema leaves
    nothing.

    Args:
        labels: the catalog's own.

    Returns:
        The prompt is None where nothing of `config.prompt` is set: then the base's own stays.

    Raises:
        InputError: the teacher's labels cannot be read or name none of the offers, there is no such schema, or it
            leaves nothing of any label.
    """
    teacher = teacher_labels(config)
    if teacher is not None and not any(offer.id in teacher for offer in offers):
        raise InputError(
            f"sft.teacher {config.teacher}: labels none of the {len(offers)} training offers; are the ids the same?"
        )
    said = said_labels(config, offers, labels, teacher)
    kept = [offer for offer, label in zip(offers, said, strict=True) if label is not None]
    taught = [label.within_limits() for label in said if label is not None]  # what is longer would be read as invalid
    shown = config.prompt
    schema = None
    if shown.attribute_schema == LEARN:
        schema = learn_schema(kept, taught)
    elif shown.attribute_schema is not None:
        schema = AttributeSchema.load(shown.attribute_schema)
    if schema is not None:
        applied = [schema.apply(label, offer.category) for offer, label in zip(kept, taught, strict=True)]
        rows = [row for row, label in enumerate(applied) if len(label) or not len(taught[row])]
        if not any(applied):
            keys = ", ".join(list(dict.fromkeys(key for label in taught for key, _ in label))[:8])
            raise InputError(
                f"sft.prompt.attribute_schema {shown.attribute_schema}: has none of the labels' keys, which are {keys}"
            )
        kept, taught = [kept[row] for row in rows], [applied[row] for row in rows]
    prompt = GeneratorPrompt(
        description=shown.description,
        category=shown.category,
        show_sellers_attributes=shown.show_sellers_attributes,
        schema=schema,
    )
    return kept, taught, None if prompt == GeneratorPrompt() else prompt


def teacher_labels(config: SFTStage) -> dict[str, KeyAttributes] | None:
    """The teacher's valid labels by offer id; None where the catalog's own are learned from.

    Raises:
        InputError: no teacher is named, or its labels cannot be read.
    """
    if config.targets == "catalog":
        return None
    if config.teacher is None:
        raise InputError(f"sft.targets={config.targets!r} needs sft.teacher, the file or folder of its labels")
    return read_key_attributes(config.teacher)


def said_labels(
    config: SFTStage,
    offers: Sequence[Offer],
    labels: Sequence[KeyAttributes],
    teacher: Mapping[str, KeyAttributes] | None,
) -> list[KeyAttributes | None]:
    """What is known of each offer, None where nothing is.

    With `targets: both` an offer has the teacher's pairs, then those pairs of the catalog's label whose key the
    teacher left out and whose value the title says; without a valid answer of the teacher the catalog's label.

    Args:
        labels: the catalog's own; an empty one is none.
        teacher: of `teacher_labels`.
    """
    own = [label if len(label) else None for label in labels]
    if teacher is None:
        return own
    if config.targets == "teacher":
        return [teacher.get(offer.id) for offer in offers]
    return [
        _both(teacher[offer.id], label or KeyAttributes(), offer) if offer.id in teacher else label
        for offer, label in zip(offers, own, strict=True)
    ]


def _both(teacher: KeyAttributes, own: KeyAttributes, offer: Offer) -> KeyAttributes:
    words = set(tokenize(offer.title))
    readable = [(key, value) for key, value in own if tokenize(value) and words.issuperset(tokenize(value))]
    return KeyAttributes.of([*teacher, *readable])  # the first of a key counts
