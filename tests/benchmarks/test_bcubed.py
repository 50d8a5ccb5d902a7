"""The benchmark's B-cubed precision and recall, by its definition."""

import importlib.util

import numpy as np
import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("bcubed", ROOT / "benchmarks" / "bcubed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bcubed_against_its_definition(measure):
    draw = np.random.default_rng(3)
    groups, products = draw.integers(6, size=40), draw.integers(6, size=40)
    precision, recall = measure.bcubed(groups, products)
    for i in range(40):
        ours = {j for j in range(40) if groups[j] == groups[i]}
        theirs = {j for j in range(40) if products[j] == products[i]}
        assert precision[i] == pytest.approx(len(ours & theirs) / len(ours))
        assert recall[i] == pytest.approx(len(ours & theirs) / len(theirs))
    assert measure.bcubed_f1(np.ones(3), np.ones(3)) == 1.0
