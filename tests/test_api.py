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


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda: afmrl.Offer("1", title=3), "Offer: title is int (3); give text"),
        (lambda: afmrl.Offer(1), "Offer: id is int (1); give text"),
        (lambda: afmrl.Offer("1", attributes="red"), "Offer: attributes is str ('red'); give a dict"),
        (lambda: afmrl.Offer("1", attributes=[("color", "red")]), "Offer: attributes is list; give a dict"),
        (lambda: afmrl.AttributeExtractor().extract("text"), "is str ('text'); give an Offer, such as"),
        (lambda: afmrl.AttributeExtractor().extract([afmrl.Offer("1")]), "is list; give an Offer"),
        (lambda: afmrl.AttributeExtractor().extract_all("text"), "extract_all: the argument is str"),
        (lambda: afmrl.AttributeExtractor.learn("text"), "AttributeExtractor.learn: the argument is str"),
        (lambda: afmrl.AttributeExtractor.learn(["text"]), "AttributeExtractor.learn: an element is str"),
        (lambda: afmrl.KeyAttributes.of("str"), "is str ('str'); give {\"color\": \"red\"}"),
        (lambda: afmrl.KeyAttributes.of(["color"]), "'color' is no pair"),
        (lambda: afmrl.KeyAttributes.of(3), "KeyAttributes.of: the argument is int"),
        (lambda: afmrl.KeyAttributes("color: red"), "KeyAttributes: pairs is str"),
        (lambda: afmrl.AttributeSchema(["color"]), "AttributeSchema: the argument is list; give AttributeSchema.of"),
        (lambda: afmrl.AttributeSchema({"dress": ["color"]}), "category 'dress' is list; give AttributeSchema.of"),
        (lambda: afmrl.read_catalog(None), "read_catalog: the catalog is NoneType; give a catalog's file"),
        (lambda: afmrl.read_catalog([afmrl.Offer("1")]), "read_catalog: the catalog is list; give a catalog's file"),
        (lambda: afmrl.evaluate("tfidf", 3), "the catalog is int (3); give a catalog's file, or a list of Offers"),
        (lambda: afmrl.search(3, text="x"), "search: target is int (3); give an index's folder"),
        (lambda: afmrl.search("x.jsonl", text=3, model="m"), "search: text is int (3); give text"),
        (lambda: afmrl.compare(1, 2), "compare: a is int (1); give a folder that"),
        (lambda: afmrl.open_index(3), "open_index: address is int (3); give"),
        (lambda: afmrl.run(3, "x"), "run: recipe is int (3); give a recipe's name"),
        (lambda: afmrl.Embedder.from_pretrained(3), "embedder is int (3); give a model's folder"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_refused_in_one_line_that_says_what_to_give(misuse, words: str) -> None:
    with pytest.raises(afmrl.InputError) as refused:
        misuse()
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_data_frame_is_no_catalogs_file_and_a_path_is_an_image() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": ["1", "2"], "title": ["red dress", "blue dress"]})
    for call in (lambda: afmrl.read_catalog(frame), lambda: afmrl.evaluate("tfidf", frame)):
        with pytest.raises(afmrl.InputError, match=r"DataFrame; give a catalog's file \(`frame\.to_parquet"):
            call()
    assert afmrl.Offer("1", image=Path("a") / "b.jpg").image == str(Path("a") / "b.jpg")


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
