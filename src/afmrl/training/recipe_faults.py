"""What is wrong with a recipe, in words: the field's dotted name, what was given, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from afmrl.training.recipe_help import allowed_values, field_at, leaves, section_model


def fault_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each fault that pydantic found."""
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"]]
        context: Mapping[str, Any] = fault.get("ctx", {})
        if fault["type"] == "faults":
            lines += [_with_name([*path, name] if name else path, what) for name, what in context["faults"]]
        elif fault["type"] == "extra_forbidden":
            lines.append(_unknown(path, model))
        elif fault["type"] == "value_error":
            lines.append(_with_name(path, str(context["error"])))
        else:
            lines.append(_not_allowed(path, fault["type"], fault["input"], model))
    return lines


def _with_name(path: Sequence[str], what: str) -> str:
    return f"'{'.'.join(path)}': {what}" if path else what


def _unknown(path: Sequence[str], model: type[BaseModel]) -> str:
    parent = field_at(model, path[:-1])
    section = section_model(parent.annotation) if parent else model
    known = list((section or model).model_fields)
    near = difflib.get_close_matches(path[-1], known, 1, 0.5)
    elsewhere = [leaf.name for leaf in leaves(model) if leaf.name.rpartition(".")[2] == path[-1]]
    if elsewhere and (not near or difflib.SequenceMatcher(None, path[-1], near[0]).ratio() < 0.8):
        near = elsewhere[:1]
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown key '{'.'.join(path)}'; {hint}"


def _not_allowed(path: Sequence[str], kind: str, given: Any, model: type[BaseModel]) -> str:
    named = list(path)
    while named and field_at(model, named) is None:
        named.pop()  # an entry of a list or a mapping: its field says what is allowed
    field = field_at(model, named)
    expected = allowed_values(field.annotation, field.metadata) if field else allowed_values(model)
    if kind == "missing":
        return f"'{'.'.join(path)}' is missing; expected {expected}"
    if kind == "too_short":
        return f"'{'.'.join(path)}': is empty; expected {expected}"
    return _with_name(named, f"{given!r} is not allowed; expected {expected}")
