"""The attribute schema: which keys a category's offers have, in which order, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import measures
from afmrl.attributes.words import normalize
from afmrl.data.yaml_text import parse_yaml
from afmrl.errors import InputError, check_type
from afmrl.files import write_json, write_text

ANY_CATEGORY = "*"
"""The category whose keys count for every category that the schema does not name."""
_BETWEEN_IDEOGRAPHS = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff]) (?=[\u3040-\u30ff\u3400-\u9fff])")
_WORD = re.compile(r"[^\W_]+")
KEY_FIELDS = ("key", "synonyms", "values", "units")


def normalize_value(value: str, *, units: bool = True) -> str:
    """A value as it is compared: case, width, white space and units brought to one form.

    A value that is one quantity and nothing else takes the unit of `afmrl.attributes.quantities`. Spaces between
    Chinese and Japanese characters are removed.

    Args:
        units: bring quantities to one unit; not where 14 M is a size.

    >>> normalize_value("1.5 L"), normalize_value("１５００ ml"), normalize_value("深 红色")
    ('1500 ml', '1500 ml', '深红色')
    >>> normalize_value("330 ml x 6"), normalize_value("6 x 0,33 l")
    ('6 x 330 ml', '6 x 330 ml')
    """
    value = _BETWEEN_IDEOGRAPHS.sub("", normalize(value))
    if not units:
        return value
    read = measures(value)
    if _WORD.search(read.rest):
        return value
    if len(read.found) == 1:
        return next(iter(read.found.values()))
    content = [size for key, size in read.found.items() if key in ("volume", "weight")]
    if len(read.found) == 2 and read.count and len(content) == 1:
        return f"{read.count} x {content[0]}"
    return value


_compared = lru_cache(maxsize=2**16)(normalize_value)  # a reward compares the same few values again and again


def comparable(attributes: KeyAttributes) -> dict[str, str]:
    """Key → value as values are compared, where no schema has brought them to one spelling.

    >>> comparable(KeyAttributes.of({"volume": "1.5 L"})) == comparable(KeyAttributes.of({"volume": "1500ml"}))
    True
    """
    return {key: _compared(value) for key, value in attributes}


@dataclass(frozen=True, slots=True)
class SchemaKey:
    """One key of a category."""

    name: str
    synonyms: tuple[str, ...] = ()
    """Other names of the key."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Allowed values with their other spellings; empty: any value."""
    closed: bool = False
    """Whether only `values` are allowed; otherwise they only say which spellings are one."""
    units: bool = True
    """Whether quantities are brought to one unit (1.5 L to 1500 ml)."""

    def value(self, text: str) -> str:
        """A value's one spelling; a synonym counts as the whole value, or word by word where words have spaces."""
        value = normalize_value(text, units=self.units)
        spellings = {other: name for name, others in self.values.items() for other in (name, *others)}
        if value in spellings or not spellings:
            return spellings.get(value, value)
        return _WORD.sub(lambda word: spellings.get(word[0], word[0]), value)


@dataclass(frozen=True)
class AttributeSchema:
    """Ordered keys of each category; `*` is for categories that are not named.

    >>> schema = AttributeSchema.of({"Dress": ["color", {"key": "size", "synonyms": ["größe"]}]})
    >>> schema.keys("dress")
    ['color', 'size']
    >>> str(schema.apply(KeyAttributes.of({"Größe": "M", "Color": "Red", "mood": "gay"}), "dress"))
    'color: red; size: m'
    """

    categories: Mapping[str, tuple[SchemaKey, ...]]

    def __post_init__(self) -> None:
        give = "AttributeSchema.of({category: [keys]}), or AttributeSchema.load(FILE)"
        check_type("AttributeSchema: the argument", self.categories, Mapping, give)
        for category, keys in self.categories.items():
            check_type(f"AttributeSchema: category {category!r}", keys, tuple, give)

    @classmethod
    def of(cls, data: Mapping[str, Any], *, where: str = "schema") -> AttributeSchema:
        """From plain data: `{category: [key, …]}`, where a key is a name or
        `{"key": name, "synonyms": [other names], "values": [allowed] or {value: [other spellings]}, "units": false}`.

        A list of values allows these alone; a mapping says which spellings are one and allows others.

        Raises:
            InputError: it has another form, or a name or a spelling appears twice.
        """
        if not isinstance(data, Mapping) or not data:
            raise InputError(f"{where}: expected {{category: [keys]}}; {ANY_CATEGORY!r} is for any category")
        categories: dict[str, tuple[SchemaKey, ...]] = {}
        for category, keys in data.items():
            place = f"{where}: category {str(category)!r}"
            if not isinstance(keys, list) or not keys:
                raise InputError(f"{place}: expected a list of keys")
            read = tuple(_schema_key(key, place) for key in keys)
            _refuse_twice((name for key in read for name in (key.name, *key.synonyms)), place, "key")
            name = normalize(str(category))
            if name in categories:
                raise InputError(f"{place}: the category appears twice")
            categories[name] = read
        return cls(categories)

    @classmethod
    def load(cls, path: str | Path) -> AttributeSchema:
        """Read a schema from YAML or JSON.

        Raises:
            InputError: no such file, or it holds no schema.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"schema {path}: cannot be read ({error}); give a YAML or JSON file") from error
        return cls.of(parse_yaml(text, f"schema {path}"), where=f"schema {path}")  # JSON is YAML

    def as_dict(self) -> dict[str, list[Any]]:
        """What `of` reads."""
        return {category: [_plain(key) for key in keys] for category, keys in self.categories.items()}

    def save(self, path: str | Path) -> None:
        """Write the schema as JSON, or as YAML where the file's ending says so; atomically."""
        path = Path(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            write_text(path, yaml.safe_dump(self.as_dict(), allow_unicode=True, sort_keys=False))
        else:
            write_json(path, self.as_dict())

    def of_category(self, category: str) -> tuple[SchemaKey, ...]:
        """Keys of a category, of any category where it is not named; none where that is not there either."""
        return self.categories.get(normalize(category)) or self.categories.get(ANY_CATEGORY) or ()

    def keys(self, category: str) -> list[str]:
        """Names of the keys of a category, in order."""
        return [key.name for key in self.of_category(category)]

    def apply(self, attributes: KeyAttributes, category: str) -> KeyAttributes:
        """The attributes in the schema's keys, order and spelling.

        Keys that the category does not have and values that are not allowed are left out; of a category without
        keys everything stays.
        """
        keys = self.of_category(category)
        if not keys:
            return attributes
        given = attributes.as_dict()
        kept: list[tuple[str, str]] = []
        for key in keys:
            name = next((name for name in (key.name, *key.synonyms) if name in given), None)
            if name is None:
                continue
            value = key.value(given[name])
            if not key.closed or value in key.values:
                kept.append((key.name, value))
        return KeyAttributes.of(kept)

    def json_schema(self, category: str) -> dict[str, Any]:
        """A JSON schema of one answer: every key of the category, a text each; "unknown" is always allowed."""
        keys = self.of_category(category)
        if not keys:
            return {"type": "object", "additionalProperties": {"type": "string"}}
        properties: dict[str, Any] = {
            key.name: {"type": "string", "enum": [*key.values, "unknown"]} if key.closed else {"type": "string"}
            for key in keys
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def _schema_key(data: Any, place: str) -> SchemaKey:
    data = {"key": data} if isinstance(data, str) else data
    if not isinstance(data, Mapping) or not isinstance(data.get("key"), str):
        raise InputError(f"{place}: {data!r} is not a key; expected a name, or an object with 'key'")
    if unknown := sorted(set(data) - set(KEY_FIELDS)):
        raise InputError(f"{place}: key {data['key']!r}: unknown field {unknown[0]!r}; known: {', '.join(KEY_FIELDS)}")
    place = f"{place}: key {data['key']!r}"
    synonyms, values = data.get("synonyms") or [], data.get("values") or []
    closed = isinstance(values, list)
    for value in [*values, *synonyms] if isinstance(synonyms, list) and isinstance(values, (list, Mapping)) else ():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InputError(f"{place}: {value!r} is not text; put it in quotes (YAML takes yes and no for booleans)")
    if closed:
        values = {value: [] for value in values}
    if not isinstance(synonyms, list) or not isinstance(values, Mapping):
        raise InputError(f"{place}: expected 'synonyms' as a list, 'values' as a list or {{value: [other spellings]}}")
    if not all(others is None or isinstance(others, list) for others in values.values()):
        raise InputError(f"{place}: 'values': expected {{value: [other spellings]}}")
    units = data.get("units", True)
    if not isinstance(units, bool):
        raise InputError(f"{place}: 'units' is true or false")
    name = _name(data["key"], place)

    def plain(value: Any) -> str:
        return normalize_value(str(value), units=units)

    spelled = {plain(value): tuple(plain(other) for other in others or ()) for value, others in values.items()}
    if bad := [value for value in spelled if says_nothing(value) or ";" in value]:
        raise InputError(f"{place}: {bad[0]!r} cannot be a value; 'unknown' is always allowed")
    _refuse_twice((one for value, others in spelled.items() for one in (value, *others)), place, "value")
    return SchemaKey(name, tuple(_name(str(s), place) for s in synonyms), spelled, closed and bool(spelled), units)


def _name(text: str, place: str) -> str:
    # as KeyAttributes writes it, or it would never be found
    pairs = KeyAttributes.of([(text, "x")]).pairs
    if not pairs:
        raise InputError(f"{place}: {text!r} cannot be the name of a key")
    return pairs[0][0]


def _refuse_twice(names: Iterable[str], place: str, what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{place}: the {what} {name!r} appears twice")
        seen.add(name)


def _plain(key: SchemaKey) -> Any:
    if not key.synonyms and not key.values and key.units:
        return key.name
    data: dict[str, Any] = {"key": key.name}
    if key.synonyms:
        data["synonyms"] = list(key.synonyms)
    if key.values:
        data["values"] = list(key.values) if key.closed else {name: list(others) for name, others in key.values.items()}
    if not key.units:
        data["units"] = False
    return data
