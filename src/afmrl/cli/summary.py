"""`--json`: what a command says for people, as one JSON object for programs. Every command gets it here."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json as json_library
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from cyclopts import Group, Parameter

from afmrl.errors import InputError

Summary = dict[str, Any]
"""What a command did: the numbers that its text shows, and the files that it wrote."""

_JSON = Annotated[
    bool,
    Parameter(
        name="--json",
        negative=(),
        group=Group("Output", sort_key=95),
        help="Print a summary as one JSON object on stdout, and nothing else there; a mistake is `error`.",
    ),
]


class Ended(Exception):
    """A command that did its work and ends with another exit code than 0."""

    def __init__(self, code: int, summary: Summary) -> None:
        super().__init__(code)
        self.code, self.summary = code, summary


def summarized(command: Callable[..., Summary]) -> Callable[..., None]:
    """The command with the option `--json`: its text then goes to stderr, and its summary to stdout."""

    @functools.wraps(command)
    def with_json(*arguments: Any, json: bool = False, **options: Any) -> None:
        out, code = sys.stdout, 0
        with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
            try:
                summary = command(*arguments, **options)
            except Ended as ended:
                summary, code = ended.summary, ended.code
            except InputError as error:
                summary, code = {"error": str(error)}, 2
                if not json:
                    raise
                _print(summary, out)
                raise
        if json:
            _print(summary, out)
        if code:
            raise SystemExit(code)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON)
    parameters = [*signature.parameters.values(), option]
    with_json.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    with_json.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return with_json


def _print(summary: Summary, out: Any) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(json_library.dumps(plain(summary), ensure_ascii=False, indent=2, allow_nan=False), file=out, flush=True)


def plain(value: Any) -> Any:
    """A value as JSON has it: paths and other things as text, dataclasses and mappings as objects, NaN as null.

    >>> import pathlib
    >>> plain({"out": pathlib.Path("a"), 3: (1.5, float("nan"))})
    {'out': 'a', '3': [1.5, None]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple | set | frozenset | Iterator):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy
        return plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
