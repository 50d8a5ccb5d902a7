"""The one exception for a user's mistake, and what a message may show."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "…"
_USER = re.compile(r"(://)[^\s/?#]*@")
_USER_OF_DATABASE = re.compile(r"(postgres(?:ql)?://)[^\s/?#@:]*:\S*@")  # a password may hold a slash
_NAMED = re.compile(
    r"(?i)((?:^|(?<=[?&;#\s]))(?:\w*(?:password|passwd|passfile|secret|token|api[_-]?key|access[_-]?key)|pwd)=)[^&;#\s]*"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """Something the user gave is wrong: a file, a row, a field, an option.

    The message says what is wrong, where (file, row, field) and what to do. The command line prints it without a
    traceback and exits with code 2. Whatever it quotes, it shows no password and steers no terminal.

    >>> str(InputError("index postgresql://shop:s3cret@db: no such table \\x1b[2J"))
    'index postgresql://…@db: no such table \\\\x1b[2J'
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(shown_address(message)))


def printable(text: str) -> str:
    """Text with control characters, marks that turn the direction of writing, and half characters as escapes.

    Ends of lines and tabs stay.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def check_type(what: str, value: Any, expected: type | tuple[type, ...], give: str) -> None:
    """Refuse a value of another type in one line that says what to give.

    Raises:
        InputError: it is none of `expected`.

    >>> check_type("Offer: title", 3, str, "text")
    Traceback (most recent call last):
    afmrl.errors.InputError: Offer: title is int (3); give text
    """
    if not isinstance(value, expected):
        kind = type(value).__name__
        shown = f" ({value!r})" if isinstance(value, str | int | float) and len(repr(value)) < 60 else ""
        raise InputError(f"{what} is {kind}{shown}; give {give}")


def shown_address(text: str) -> str:
    """The text with what is secret in its addresses replaced; text without any stays as it is.

    >>> shown_address("postgresql://shop:s3/cret@db/offers?password=s3cret&table=t")
    'postgresql://…@db/offers?password=…&table=t'
    >>> shown_address("openai:http://user:pw@host:8000/v1#model"), shown_address("https://cdn/@shop/a.jpg")
    ('openai:http://…@host:8000/v1#model', 'https://cdn/@shop/a.jpg')
    """
    if "@" in text and "://" in text:
        text = _USER.sub(rf"\1{HIDDEN}@", _USER_OF_DATABASE.sub(rf"\1{HIDDEN}@", text))
    return _NAMED.sub(rf"\1{HIDDEN}", text) if "=" in text else text
