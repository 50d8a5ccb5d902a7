"""Every benchmark: it starts, no two import each other, its committed cells make its table, and a run continues."""

import ast
import importlib
import json
import sys

import numpy as np
import pytest

from afmrl.data.offer import Offer
from cells import Cells
from conftest import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
COMMANDS = [name for name in SCRIPTS if "__main__" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")]
WITH_TABLE = [name for name in COMMANDS if "run_and_table(" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")]


@pytest.fixture
def run(monkeypatch, capsys):
    """`python benchmarks/NAME.py …` in this process: exit code and stdout."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code = 0
        try:
            importlib.import_module(name).main()
        except SystemExit as stop:
            code = stop.code
        return code or 0, capsys.readouterr().out

    return call


def imports_of(name):
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found & set(SCRIPTS)


def test_no_scripts_import_each_other():
    graph = {name: imports_of(name) for name in SCRIPTS}

    def reached(name, seen):
        for other in graph[name] - seen:
            reached(other, seen | {other})
            seen |= {other} | graph[other]
        return seen

    assert [name for name in SCRIPTS if name in reached(name, set())] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_can_be_imported(name):
    """With what the tests install: what only a measurement needs is imported there."""
    assert importlib.import_module(name).__doc__, "its first lines say what it measures"


def test_the_readme_names_every_command_and_every_result():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`{name}.py`" not in text] == []
    results = [path.name for path in (FOLDER / "results").iterdir() if path.suffix in (".json", ".parquet")]
    assert [name for name in results if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_what_it_does(run, name):
    code, out = run(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: {name}.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WITH_TABLE, "match"])
def test_the_committed_results_make_a_table(run, name):
    code, out = run(name, "table")
    assert code == 0
    assert out.count("\n|") > 3


def test_a_missing_file_of_cells_is_told(run, tmp_path):
    code, out = run("public_sets", "table", "--results", tmp_path / "none.parquet")
    assert code == 0
    assert "no cells in" in out and "public_sets.py run" in out


def test_a_tiny_benchmark_runs_prints_its_table_and_continues(tmp_path, capsys):
    """`copy` and `rules` of `distillation` on a set of ten titles."""
    benchmark = importlib.import_module("distillation")
    folder = tmp_path / "oa_mine"
    folder.mkdir()
    rows = [
        {"id": f"o{n}", "title": f"Acme lamp {color}", "category": "Lamp", "attributes": {"Color": color},
         "split": "test" if n > 6 else "train"}
        for n, color in enumerate(["red", "blue"] * 5)
    ]  # fmt: skip
    (folder / "products.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    cells = Cells(tmp_path / "cells.parquet", "set", "system", "seed")

    def all_systems():
        for system in ("copy", "rules"):
            benchmark.run_cell("oa_mine", system, 0, tmp_path, tmp_path / "work", cells)

    all_systems()
    assert cells.keys() == [("oa_mine", "copy", 0), ("oa_mine", "rules", 0)]
    text = benchmark.table(cells.all())
    assert "| oa_mine (strict) | copy | 1 | 100.0 | 100.0 | 100.0 [100.0, 100.0] |" in text
    assert capsys.readouterr().out.count("oa_mine") == 2
    before = cells.path.stat().st_mtime_ns
    all_systems()
    assert capsys.readouterr().out == "" and cells.path.stat().st_mtime_ns == before


def ladder_cell(ranks):
    ranks = np.array(ranks)
    return {"num_queries": len(ranks), "num_families": 2, "ranks": ranks, "general": {}, "attribute_accuracy": {}}


def test_the_ladder_compares_the_seeds_that_both_rungs_have(tmp_path):
    cells = Cells(tmp_path / "cells.parquet", "rung", "seed")
    for seed in (0, 1):
        cells.put(("infonce", seed), ladder_cell([2, 2, 1, 2]))
    cells.put(("agcl", 1), ladder_cell([1, 1, 1, 2]))
    lines = importlib.import_module("ladder_table").table(cells.all()).splitlines()
    assert lines[0].startswith("4 test queries in 2 families")
    assert [line.split("|")[2].strip() for line in lines if line.startswith(("| InfoNCE |", "| + AGCL |"))] == [
        "2",
        "1",
    ]
    step = next(line for line in lines if line.startswith("| InfoNCE → + AGCL |"))
    assert step.split("|")[2].strip() == "1" and "+50.0" in step


def test_the_folds_of_one_seed_are_pooled(tmp_path):
    cells = Cells(tmp_path / "cells.parquet", "rung", "seed", "fold")
    for fold in (0, 1):
        cells.put(("agcl", 0, fold), ladder_cell([1, 1 + fold]))
    cells.put(("agcl", 1, 0), ladder_cell([1, 1]))  # its second fold is not there yet
    lines = importlib.import_module("ladder_table").table(cells.all(), "query").splitlines()
    row = next(line for line in lines if line.startswith("| + AGCL |"))
    assert row.startswith("| + AGCL | 1 | 75.0")


def test_settings_of_rar_are_compared_by_ranks_and_by_right_values(tmp_path):
    cells = Cells(tmp_path / "cells.parquet", "setting", "seed")
    right = {"color": {"sft": np.array([1, 0]), "rar": np.array([1, 1])}}
    ranks = {"sft:both": np.array([2, 2]), "rar:both": np.array([1, 2])}
    cells.put(("default", 0), {"ranks": ranks, "right": right, "length": [4.0, 6.0]})
    text = importlib.import_module("rar_truth").table(cells.all())
    assert "| default | 1 | 0.0 +50.0" in text and "| 50.0 +50.0" in text
    assert "| tokens by step | 1–2 |" in text and "| default | 5.0 |" in text


def test_rows_by_product_pass_over_offers_without_one():
    offers = [Offer("1", "a", product_id="p"), Offer("2", "b"), Offer("3", "c", product_id="p")]
    assert importlib.import_module("common").rows_by_product(offers) == {"p": [0, 2]}
