"""`import afmrl`: the public names, and that importing loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import afmrl

NAMES = [
    "Offer", "read_catalog", "KeyAttributes", "AttributeSchema", "AttributeExtractor", "Embedder", "AttributeGenerator",
    "AttributeGuidedContrastiveLoss", "similar_batches", "mine_hard_negatives", "RetrievalReward", "open_index",
    "search", "match", "evaluate", "compare", "run", "InputError", "__version__",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert sorted(afmrl.__all__) == sorted(NAMES) and set(NAMES) <= set(dir(afmrl))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(afmrl, name)
    if name == "__version__":
        assert value == version("afmrl")
        return
    assert callable(value) and value.__name__ == name
    first = " ".join(value.__doc__.strip().split("\n\n")[0].split())
    assert first.endswith(".") and len(first) > 20


def test_a_star_import_gives_them_and_an_unknown_name_is_refused() -> None:
    names: dict[str, object] = {}
    exec("from afmrl import *", names)
    assert set(NAMES) <= names.keys()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = afmrl.nothing


def test_importing_takes_no_torch_and_nothing_of_the_project() -> None:
    code = (
        "import sys, afmrl; dir(afmrl); afmrl.__all__; afmrl.__version__\n"
        "assert [m for m in sys.modules if m.split('.')[0] == 'afmrl'] == ['afmrl'], sys.modules.keys()\n"
        "assert not {'torch', 'numpy', 'pandas', 'transformers'} & sys.modules.keys()\n"
        "afmrl.Offer, afmrl.read_catalog, afmrl.KeyAttributes, afmrl.AttributeSchema, afmrl.match, afmrl.InputError\n"
        "assert not {'torch', 'pandas', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse(Path(afmrl.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("afmrl.")
        for alias in node.names
    }
    assert seen == {name: f"afmrl.{module}" for name, module in afmrl._MODULES.items()}


def test_python_m_afmrl_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "afmrl", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() == version("afmrl")
    usage = subprocess.run([sys.executable, "-m", "afmrl", "--help"], capture_output=True, text=True, check=False)
    assert usage.returncode == 0 and "match" in usage.stdout
