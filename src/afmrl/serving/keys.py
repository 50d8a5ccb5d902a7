"""Keys of a server's clients: kept as hashes, compared in constant time, for reading or for writing too."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from afmrl.errors import InputError
from afmrl.files import read_lines

Scope = Literal["read", "write"]
VARIABLE = "AFMRL_KEYS"
LEAST_CHARACTERS = 20
"""Of a key: a hash without salt protects only what nobody can guess."""
_LINE = re.compile(r"(read|write)\s+sha256:([0-9a-f]{64})(\s.*)?", re.IGNORECASE)
_LINE_HELP = 'write `read sha256:HASH NAME` or `write sha256:HASH NAME`, HASH from: printf %s "$KEY" | sha256sum'


class Keys:
    """Who may read, and who may write too.

    Args:
        hashes: SHA-256 of each key in hex, and its scope.

    >>> keys = Keys({hashlib.sha256(b"correct horse battery").hexdigest(): "read"})
    >>> keys.scope("correct horse battery"), keys.scope("guess"), bool(Keys({}))
    ('read', None, False)
    """

    def __init__(self, hashes: Mapping[str, Scope]) -> None:
        self._hashes = {name.lower().encode(): scope for name, scope in hashes.items()}

    @classmethod
    def read(cls, path: str | Path | None = None) -> Keys:
        """The keys of a file and of the environment's AFMRL_KEYS.

        A file has one line a key, `read sha256:HASH NAME`; empty lines and lines that begin with # count nothing. The
        variable holds the keys themselves, as `read:KEY write:KEY`.

        Raises:
            InputError: no such file, or something in it that is not a hashed key; a short key.
        """
        hashes: dict[str, Scope] = {}
        for entry in os.environ.get(VARIABLE, "").replace(",", " ").split():
            scope, _, key = entry.partition(":")
            if scope not in ("read", "write") or len(key) < LEAST_CHARACTERS:
                raise InputError(
                    f"{VARIABLE}: give read:KEY or write:KEY, keys of {LEAST_CHARACTERS} characters or more"
                )
            hashes[hashlib.sha256(key.encode()).hexdigest()] = "write" if scope == "write" else "read"
        if path is None:
            return cls(hashes)
        try:
            lines = read_lines(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a file of keys; {_LINE_HELP}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:  # the line is not shown: it may be a key
                raise InputError(f"{path}:{number}: is not a hashed key; {_LINE_HELP}")
            hashes[found[2].lower()] = "write" if found[1].lower() == "write" else "read"
        if not hashes:
            raise InputError(f"{path}: holds no key; {_LINE_HELP}")
        return cls(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def scope(self, key: str) -> Scope | None:
        """What a key allows; None: nothing."""
        ours = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest().encode()
        allowed: Scope | None = None
        for known, scope in self._hashes.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, ours):
                allowed = scope
        return allowed
