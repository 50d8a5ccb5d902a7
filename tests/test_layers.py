"""The house's structure, as far as import-linter's contracts in pyproject.toml do not hold it."""

from __future__ import annotations

from pathlib import Path

import afmrl

PACKAGE = Path(afmrl.__file__).parent


def test_four_modules_at_most_are_beside_the_packages():
    beside = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert beside <= {"__main__.py", "errors.py", "files.py", "terminal.py"}


def test_every_package_says_what_it_holds():
    silent = [path for path in PACKAGE.rglob("__init__.py") if not path.read_text(encoding="utf-8").startswith('"""')]
    assert silent == []
