"""YAML of a recipe or a schema, bounded: what is small stays small, and a date is text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from afmrl.errors import InputError

MAX_CHARACTERS = 1_000_000
"""About ten seconds of reading."""
MAX_NODES = 1_000_000
"""Values, those of an alias counted at each place where it stands: a few lines can stand for billions."""
MAX_DEPTH = 64


def parse_yaml(text: str, where: str) -> Any:
    """YAML's value, numbers such as 1e-5 included, which PyYAML takes for text.

    Args:
        where: begins the error's message, as "recipe FILE".

    Raises:
        InputError: it is not YAML, or larger than the bounds above.

    >>> parse_yaml("a: [1e-5, 2020-99-99]", "recipe r.yaml")
    {'a': [1e-05, '2020-99-99']}
    """
    import yaml

    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{where}: has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, where, {}, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise InputError(f"{where}: is not YAML: {place}{' '.join(reason.split())}") from error
    except (RecursionError, ValueError, TypeError) as error:
        raise InputError(f"{where}: is not YAML that can be read ({str(error) or type(error).__name__})") from error


def _count(node: Any, where: str, counted: dict[int, int], above: set[int]) -> int:
    """Values below a node, aliases expanded."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise InputError(f"{where}: an alias stands inside of what it names; write it out")
    if len(above) >= MAX_DEPTH:
        raise InputError(f"{where}: values are over {MAX_DEPTH} levels deep")
    if id(node) not in counted:
        inside = above | {id(node)}
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_count(part, where, counted, inside) for part in parts)
        if counted[id(node)] > MAX_NODES:
            raise InputError(f"{where}: its aliases stand for more than {MAX_NODES:,} values; write them out")
    return counted[id(node)]


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1 wants a dot in 1.0e-5; people write 1e-5. It takes 2020-01-01 for a date, which no field is."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
    return Loader
