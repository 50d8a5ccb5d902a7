"""Addresses of databases and servers as they may be shown: without user names, passwords and keys."""

from __future__ import annotations

import re

HIDDEN = "…"
_USER = re.compile(r"(://)[^\s/?#]*@")
_USER_OF_DATABASE = re.compile(r"(postgres(?:ql)?://)[^\s/?#@:]*:\S*@")  # a password may hold a slash
_NAMED = re.compile(
    r"(?i)((?:^|(?<=[?&;#\s]))(?:\w*(?:password|passwd|passfile|secret|token|api[_-]?key|access[_-]?key)|pwd)=)[^&;#\s]*"
)


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
