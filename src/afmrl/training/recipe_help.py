"""Every field of a recipe: its dotted name, default, allowed values and meaning, as its pydantic model says."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class RecipeField:
    """One leaf of a recipe."""

    name: str
    """Dotted: "agcl.max_steps"."""
    default: Any
    annotation: Any
    constraints: tuple[Any, ...]
    meaning: str

    @property
    def section(self) -> str:
        """The first part of the name, "" for a value at the top."""
        return self.name.partition(".")[0] if "." in self.name or self.kind == "section" else ""

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        return allowed_values(self.annotation, self.constraints)

    @property
    def kind(self) -> str:
        """The type in one word: "int", "float", "bool", "text", "list", "mapping" or "section"."""
        annotation = next(option for option in _options(self.annotation) if option is not types.NoneType)
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        kinds = {int: "int", float: "float", bool: "bool", tuple: "list", dict: "mapping"}
        return "section" if section_model(annotation) else kinds.get(get_origin(annotation) or annotation, "text")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may be given; empty where any may."""
        choices = [option for option in _options(self.annotation) if get_origin(option) is Literal]
        return tuple(str(choice) for choice in get_args(choices[0])) if choices else ()

    @property
    def is_bounded(self) -> bool:
        """Whether `allowed` says what `kind` and `choices` do not."""
        return "between" in self.allowed or self.kind in ("list", "mapping")


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[RecipeField]:
    """All fields that hold a value, in the order of the models; sections are walked through."""
    for name, field in model.model_fields.items():
        nested = section_model(field.annotation)
        if nested is not None:
            yield from leaves(nested, f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            meaning = " ".join((field.description or "").split())
            yield RecipeField(prefix + name, default, field.annotation, tuple(field.metadata), meaning)


def optional_sections(model: type[BaseModel], prefix: str = "") -> Iterator[RecipeField]:
    """Sections that a recipe may be without, as fields of their own: null leaves one out."""
    for name, field in model.model_fields.items():
        nested = section_model(field.annotation)
        if nested is None:
            continue
        if types.NoneType in _options(field.annotation):
            meaning = " ".join((field.description or "").split())
            yield RecipeField(prefix + name, field.default, field.annotation, (), f"{meaning} Null leaves it out.")
        yield from optional_sections(nested, f"{prefix}{name}.")


def section_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a section, "Section" or "Section | None"; None for a leaf."""
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def field_at(model: type[BaseModel], path: typing.Sequence[str]) -> FieldInfo | None:
    """The field of a dotted name's parts; None if there is none."""
    field: FieldInfo | None = None
    current: type[BaseModel] | None = model
    for part in path:
        field = current.model_fields.get(part) if current is not None else None
        if field is None:
            return None
        current = section_model(field.annotation)
    return field


def allowed_values(annotation: Any, constraints: typing.Sequence[Any] = ()) -> str:
    """What a field takes, in words.

    >>> allowed_values(int | None), allowed_values(Literal["a", "b"]), allowed_values(tuple[str, ...])
    ('a whole number, or null', 'a or b', 'a list of text')
    """
    nested = section_model(annotation)
    if nested is not None:
        return f"a section of fields: {', '.join(nested.model_fields)}"
    words = [_words(option, constraints) for option in _options(annotation) if option is not types.NoneType]
    null = ", or null" if types.NoneType in _options(annotation) else ""
    return " or ".join(words) + null


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (types.UnionType, typing.Union) else (annotation,)


def _words(annotation: Any, constraints: typing.Sequence[Any]) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        constraints = [*constraints, *(part for one in extra for part in getattr(one, "metadata", [one]))]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _one_of([str(choice) for choice in arguments])
    if origin is tuple:
        return f"a list of {_words(arguments[0], ())}"
    if origin is dict:
        return f"a mapping of {_words(arguments[0], ())} to {_words(arguments[1], ())}"
    if annotation in (int, float):
        return ("a whole number" if annotation is int else "a number") + _bounds(constraints)
    return {bool: "true or false", str: "text"}.get(annotation, str(annotation))


def _bounds(constraints: typing.Sequence[Any]) -> str:
    found = {name: getattr(one, name) for one in constraints for name in ("gt", "ge", "le") if hasattr(one, name)}
    if "ge" in found and "le" in found:
        return f" between {found['ge']:g} and {found['le']:g}"
    if "gt" in found:
        return f" above {found['gt']:g}"
    return f" of at least {found['ge']:g}" if "ge" in found else ""


def _one_of(choices: typing.Sequence[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
