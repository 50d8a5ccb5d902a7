"""Recipes as files: those that are shipped with the package, one's own, and fields set from outside."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from afmrl.data.rows import ENDINGS
from afmrl.data.yaml_text import parse_yaml
from afmrl.errors import InputError
from afmrl.training.config import LEARN

PATHS = ("catalog.path", "catalog.positives.pairs", "sft.teacher", "sft.prompt.attribute_schema")
"""Fields that name files: in a recipe file relative to it, elsewhere relative to the working folder."""


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe says, not checked yet."""

    data: dict[str, Any]
    where: str
    """What messages call it."""
    shipped: str = ""
    """Its name, if it is one of the package's: its files are examples, and the user's are to be given instead."""

    def with_overrides(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's fields, those of `overrides` set.

        Raises:
            InputError: the files of a shipped recipe are not given.
        """
        data = _copied(self.data)
        given = {name.replace("-", "_"): value for name, value in overrides.items()}
        missing = []
        for name in PATHS if self.shipped else ():
            value = _get(data, name)
            if isinstance(value, str) and value != LEARN and name not in given:
                missing.append(name)
        if missing:
            options = " ".join(f"--{name.replace('_', '-')} {_get(data, name)}" for name in missing)
            raise InputError(
                f"{self.where}: needs files of your own: name them, as in `afmrl run {self.shipped} {options}`, or "
                f"copy the recipe with `afmrl recipe {self.shipped} > my.yaml` and name them there"
            )
        for name, value in given.items():
            if name in PATHS and isinstance(value, str) and value != LEARN:
                value = str(Path(value).resolve())
            override(data, name, value)
        return data


def shipped_recipes() -> dict[str, str]:
    """Name → first line of its comment, of the recipes that come with the package."""
    files = sorted(resources.files("afmrl.recipes").iterdir(), key=lambda file: file.name)
    texts = {file.name.removesuffix(".yaml"): file.read_text("utf-8") for file in files if file.name.endswith(".yaml")}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in texts.items()}


def shipped_text(name: str) -> str:
    """The YAML of a recipe that comes with the package.

    Raises:
        InputError: there is none of this name.
    """
    known = shipped_recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else "give the path of a YAML file, or the name of a shipped one. "
        raise InputError(f"recipe {name!r}: no such recipe; {hint}Shipped with afmrl: {', '.join(known)}")
    return (resources.files("afmrl.recipes") / f"{name}.yaml").read_text("utf-8")


def read_recipe(source: str | Path) -> RecipeFile:
    """A shipped recipe by its name, or a YAML file by its path; `./own_catalog` is a file, whatever is shipped.

    Raises:
        InputError: there is none, or it is not YAML.
    """
    path = Path(source)
    is_path = path.suffix in (".yaml", ".yml") or str(source) != path.name or path.exists()
    if str(source) in shipped_recipes() or not is_path:
        name = str(source)
        return RecipeFile(_parsed(shipped_text(name), f"recipe {name}"), f"recipe {name}", name)
    where = f"recipe {path}"
    if path.suffix.lower() in ENDINGS:
        raise InputError(
            f"{where}: is a catalog of offers, and `afmrl run` takes a recipe: afmrl run own_catalog --catalog.path "
            f"{shlex.quote(str(path))}, or own_text for titles alone"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{where}: cannot be read ({error.strerror}); give the path of a YAML file, or the name of a shipped "
            f"recipe: {', '.join(shipped_recipes())}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text; give the path of a YAML file") from error
    data = _parsed(text, where)
    for name in PATHS:
        value = _get(data, name)
        if isinstance(value, str) and value != LEARN and not Path(value).is_absolute():
            override(data, name, str((path.parent / value).resolve()))
    return RecipeFile(data, where)


def override(data: dict[str, Any], name: str, value: Any) -> None:
    """Set one field of nested dicts by its dotted name; sections that are not there are made."""
    *sections, last = name.replace("-", "_").split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            data[section] = {}
        data = data[section]
    data[last] = value


def _parsed(text: str, where: str) -> dict[str, Any]:
    data = parse_yaml(text, where) or {}
    if not isinstance(data, dict):
        raise InputError(f"{where}: holds {type(data).__name__}, expected sections such as 'catalog:'")
    return data


def _get(data: Any, name: str) -> Any:
    for part in name.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _copied(data: Any) -> Any:
    return {name: _copied(value) for name, value in data.items()} if isinstance(data, Mapping) else data
