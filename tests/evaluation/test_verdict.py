"""The verdict: what it says of models that are better, worse, or cannot be told from what learns nothing."""

import json

import numpy as np
import pytest

from afmrl.data.offer import Offer
from afmrl.evaluation import floors as floors_module
from afmrl.evaluation.evaluate import evaluate
from afmrl.evaluation.floors import floors_of
from afmrl.evaluation.significance import sign_flip_p_value
from afmrl.evaluation.tasks import build_task, choose_split
from afmrl.evaluation.verdict import judge
from afmrl.report.evaluation_page import write_evaluation_page


def right(number, of):
    """R@1 of queries of which the first `number` are right."""
    return (np.arange(of) < number).astype(float)


def products(number):
    return [f"p{row}" for row in range(number)]


def test_better_says_by_how_much():
    verdict = judge(right(90, 100), {"tfidf": right(60, 100), "bm25": right(50, 100)}, products(100), model="ours")
    assert verdict.conclusion == "better"
    assert verdict.text.startswith("Better than TF-IDF by 30.0 points R@1 [")
    assert verdict.text.endswith("]: 90.0 % against 60.0 %.")
    assert verdict.remedy == "" and "the best of TF-IDF, BM25 on these queries" in verdict.about


def test_a_floor_that_is_better_is_to_be_used():
    verdict = judge(right(6, 16), {"tfidf": right(15, 16)}, products(16), model="ours")
    assert verdict.conclusion == "worse"
    assert verdict.text.startswith("TF-IDF is better: use it. R@1 37.5 % against 93.8 %, −56.2 points [")
    assert verdict.remedy == "afmrl search OFFERS --model tfidf"
    assert verdict.lines[1].strip() == verdict.remedy


def test_a_difference_that_the_queries_cannot_show_is_none():
    verdict = judge(right(9, 16), {"tfidf": right(8, 16)}, products(16), model="ours")
    assert verdict.conclusion == "no difference"
    assert verdict.text.startswith("No difference to TF-IDF that 16 queries could show: R@1 56.2 % against 50.0 %, +6")


def test_five_products_show_nothing_however_clear_the_queries():
    clusters = [f"p{row // 20}" for row in range(100)]
    verdict = judge(right(100, 100), {"tfidf": right(0, 100)}, clusters, model="ours")
    assert (verdict.conclusion, verdict.num_clusters) == ("no difference", 5)


def test_better_than_one_floor_and_not_than_another_is_not_better():
    strong = right(88, 100)[::-1]
    verdict = judge(right(90, 100), {"tfidf": right(50, 100), "bm25": strong}, products(100), model="ours")
    assert (verdict.conclusion, verdict.floor) == ("no difference", "bm25")


def test_of_many_floors_the_one_that_happened_to_win_does_not_win():
    ours, draw = right(40, 60), np.random.default_rng(0)
    called = 0
    for _ in range(100):  # equal in truth: each floor's rights are the model's, dealt anew
        floors = {f"floor {number}": draw.permutation(ours) for number in range(5)}
        called += judge(ours, floors, products(60), model="ours", num_resamples=200).conclusion in ("worse", "better")
    assert called <= 8


def test_val_that_also_chose_gives_no_verdict_but_a_bad_one():
    options = {"model": "ours", "split": "val", "favored": "val also chose RAR's step"}
    good = judge(right(90, 100), {"tfidf": right(60, 100)}, products(100), **options)
    assert (good.conclusion, good.text[:42]) == ("unjudged", "No verdict: val also chose RAR's step. R@1")
    bad = judge(right(30, 100), {"tfidf": right(60, 100)}, products(100), **options)
    assert bad.conclusion == "worse"


def test_without_queries_or_floors_it_says_why():
    assert "no query with a match" in judge(right(0, 0), {"tfidf": right(0, 0)}, [], model="ours").text
    assert judge(right(3, 4), {}, products(4), model="m").text == "No verdict: no floor was measured. R@1 75.0 %."


@pytest.mark.parametrize("number", [3, 8, 30])
def test_sign_flips_agree_with_the_exact_sign_test(number):
    from scipy.stats import binomtest

    won, lost = number, number // 3
    ours = np.r_[np.ones(won), np.zeros(lost), np.ones(20)]
    theirs = np.r_[np.zeros(won), np.ones(lost), np.ones(20)]
    assert sign_flip_p_value(ours, theirs) == pytest.approx(binomtest(won, won + lost).pvalue, abs=0.01)


# of offers


def offers(number=24, images=False):
    """Queries that repeat two of their product's three words."""
    rows = []
    for n in range(number):
        image = f"{n}.jpg" if images else ""
        rows.append(Offer(f"q{n:02}", f"name{n} kind{n % 4}", product_id=f"p{n}", image=image, extra={"role": "query"}))
        title = f"new shop, low price, kind{n % 4} and kind{n % 3} beside it, a name{n}, fast delivery"
        rows.append(Offer(f"g{n:02}", title, product_id=f"p{n}", extra={"role": "gallery"}))
    return rows


def test_floors_are_those_that_both_sides_can_be_read_by():
    task = build_task("fine", choose_split(offers(images=True)))
    assert {"tfidf", "bm25"} <= set(floors_of(task).scorers) and "color" not in floors_of(task).scorers
    assert "bm25" not in floors_of(task, model="bm25").scorers


def test_floors_of_large_catalogs_are_left_out_and_told(monkeypatch):
    monkeypatch.setattr(floors_module, "MAX_SCORES", 100)
    found = floors_of(build_task("fine", choose_split(offers())), ("tfidf", "bm25"))
    assert not found.scorers
    assert found.left_out == dict.fromkeys(("tfidf", "bm25"), "576 scores, more than 100")


def test_evaluate_opens_with_the_verdict_everywhere(tmp_path, tiny_model):
    result = evaluate(tiny_model, offers(), tasks=["fine"], out=tmp_path, num_resamples=200)
    written = json.loads((tmp_path / "metrics.json").read_text())["verdict"]
    assert (written["conclusion"], written["floor"]) == ("worse", "tfidf")  # random weights, and every name is there
    assert written["text"] == result.verdict.text
    assert written["floors"]["tfidf"] == 1.0
    page = write_evaluation_page(result, tmp_path).read_text()
    assert result.verdict.text in page and page.index(result.verdict.text) < page.index("<main")


def test_a_floor_and_an_evaluation_without_floors_have_no_verdict(tiny_model):
    assert evaluate("tfidf", offers(), tasks=["fine"]).verdict is None
    quiet = evaluate(tiny_model, offers(), tasks=["fine"], floors=False)
    assert quiet.verdict is None and "verdict" not in quiet.metrics


def test_floors_of_graded_queries_are_scored_by_the_same_grades(tmp_path, tiny_model):
    rows = offers()
    qrels = tmp_path / "qrels.tsv"
    lines = [f"q{n:02}\tg{n:02}\t2\nq{n:02}\tg{(n + 4) % 24:02}\t1\n" for n in range(24)]
    qrels.write_text("".join(lines))
    found = evaluate(tiny_model, queries=rows[::2], gallery=rows[1::2], qrels=qrels, num_resamples=50)
    floor = evaluate("tfidf", queries=rows[::2], gallery=rows[1::2], qrels=qrels, num_resamples=50)
    assert found.metrics["verdict"]["floors"]["tfidf"] == floor.metrics["recall@1"]
