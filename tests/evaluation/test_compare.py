"""Two evaluations compared: the right queries, the right tests, and the mistakes that would make a comparison void."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from afmrl.cli.compare import print_comparison
from afmrl.errors import InputError
from afmrl.evaluation.compare import compare
from afmrl.evaluation.significance import holm, paired_bootstrap


def record(query: str, rank: int, *, task: str = "fine", family: str = "", **fields: Any) -> dict[str, Any]:
    metrics = {"recall@1": float(rank == 1), "recall@5": float(rank <= 5), "mrr": round(1 / rank, 6)}
    row = {"task": task, "query": query, "cluster": family or query, "rank": rank, "num_relevant": 1}
    return {**row, "metrics": metrics, "slices": {}, "first_hit": f"g-{query}-{rank}", **fields}


def evaluation(folder: Path, records: Sequence[dict[str, Any]], settings: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    if settings:
        (folder / "metrics.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def ranks(number: int, seed: int, right: float) -> list[int]:
    draw = np.random.default_rng(seed)
    return [1 if draw.random() < right else int(draw.integers(2, 50)) for _ in range(number)]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, list[int], list[int]]:
    of_a, of_b = ranks(120, 0, 0.4), ranks(120, 1, 0.7)
    sides = [
        evaluation(tmp_path / name, [record(f"q{n}", rank, family=f"f{n // 3}") for n, rank in enumerate(of_side)])
        for name, of_side in (("a", of_a), ("b", of_b))
    ]
    return sides[0], sides[1], of_a, of_b


def test_difference_is_b_minus_a_with_the_paired_bootstrap_by_family(two: tuple) -> None:
    a, b, of_a, of_b = two
    found = compare(a, b, num_resamples=500)
    families = [f"f{n // 3}" for n in range(120)]
    assert (found.task, found.num_queries, found.num_clusters, found.only_a, found.only_b) == ("fine", 120, 40, 0, 0)
    assert list(found.metrics) == ["recall@1", "recall@5", "mrr"]
    p_values = []
    for name, value in (
        ("recall@1", lambda r: r == 1),
        ("recall@5", lambda r: r <= 5),
        ("mrr", lambda r: round(1 / r, 6)),
    ):
        ours, theirs = (np.array([float(value(rank)) for rank in side]) for side in (of_b, of_a))
        expected = paired_bootstrap(ours, theirs, families, num_resamples=500)
        metric = found.metrics[name]
        assert metric.difference.mean == pytest.approx(ours.mean() - theirs.mean())
        assert (metric.difference.low, metric.difference.high) == pytest.approx(
            (expected.difference.low, expected.difference.high)
        )
        assert (metric.b.mean, metric.a.mean) == pytest.approx((ours.mean(), theirs.mean()))
        p_values.append(expected.p_value)
        assert metric.p_value == pytest.approx(expected.p_value)
    assert [metric.p_holm for metric in found.metrics.values()] == pytest.approx(holm(p_values))
    assert found.metrics["recall@1"].difference.low > 0  # and not A − B


def test_queries_won_and_lost_and_the_exact_sign_test(tmp_path: Path) -> None:
    pairs = [(1, 1)] * 5 + [(7, 1), (3, 1), (40, 1), (2, 1), (9, 1), (2, 1)] + [(1, 6)] + [(4, 9)] * 8
    a = evaluation(tmp_path / "a", [record(f"q{n:02}", left) for n, (left, _) in enumerate(pairs)])
    b = evaluation(tmp_path / "b", [record(f"q{n:02}", right) for n, (_, right) in enumerate(pairs)])
    found = compare(a, b, num_resamples=100)
    assert [(query.query, query.rank_a, query.rank_b) for query in found.won] == [
        ("q07", 40, 1), ("q09", 9, 1), ("q05", 7, 1), ("q06", 3, 1), ("q08", 2, 1), ("q10", 2, 1)
    ]  # fmt: skip
    (lost,) = found.lost
    assert (lost.query, lost.rank_a, lost.rank_b, lost.first_hit_a, lost.first_hit_b) == (
        "q11", 1, 6, "g-q11-1", "g-q11-6"
    )  # fmt: skip
    # McNemar, exact: at most one of seven coins shows the rarer side
    assert found.sign_p_value == pytest.approx(2 * sum(math.comb(7, k) for k in (0, 1)) / 2**7)


def test_an_evaluation_does_not_differ_from_itself(two: tuple) -> None:
    a, *_ = two
    found = compare(a, a, num_resamples=100)
    assert not found.won and not found.lost and found.sign_p_value == 1.0
    for metric in found.metrics.values():
        assert (metric.difference.mean, metric.difference.low, metric.difference.high) == (0, 0, 0)
        assert metric.p_value == 1.0


def test_queries_are_paired_by_id_and_not_by_line(two: tuple, tmp_path: Path) -> None:
    a, b, *_ = two
    lines = (b / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    (shuffled / "queries.jsonl").write_text("\n".join(lines[::-1]), encoding="utf-8")
    assert compare(a, shuffled, num_resamples=100).metrics == compare(a, b, num_resamples=100).metrics


def test_other_queries_are_refused_unless_common_is_asked(two: tuple, tmp_path: Path) -> None:
    a, *_ = two
    part = evaluation(tmp_path / "part", [record(f"q{n}", 1, family=f"f{n // 3}") for n in range(100, 130)])
    with pytest.raises(InputError, match=r"100 \(q0, q1, q2, …\) are only in the first, 10 \(q120, .*--common"):
        compare(a, part)
    found = compare(a, part, common=True, num_resamples=50)
    assert (found.num_queries, found.only_a, found.only_b) == (20, 100, 10)
    apart = evaluation(tmp_path / "apart", [record("other", 1)])
    with pytest.raises(InputError, match="no query in common"):
        compare(a, apart, common=True)


def test_other_matches_are_refused(two: tuple, tmp_path: Path) -> None:
    a, _, of_a, _ = two
    other = evaluation(
        tmp_path / "other",
        [record(f"q{n}", rank, num_relevant=1 + (n == 5)) for n, rank in enumerate(of_a)],
    )
    with pytest.raises(InputError, match="different matches: 1 queries differ, 'q5' among them, with 1 matches"):
        compare(a, other)


def test_task_and_metrics_are_chosen(two: tuple, tmp_path: Path) -> None:
    a, b, *_ = two
    assert list(compare(a, b, metrics=["mrr"], num_resamples=50).metrics) == ["mrr"]
    with pytest.raises(InputError, match="metric 'map' is not known for every query; these are: mrr, recall@1"):
        compare(a, b, metrics=["map"])
    coarse = [record(f"q{n}", n + 1, task="coarse") for n in range(3)]
    image = [record(f"q{n}", n + 2, task="text-to-image") for n in range(3)]
    left, right = evaluation(tmp_path / "left", coarse), evaluation(tmp_path / "right", coarse + image)
    assert compare(left, right, num_resamples=50).task == "coarse"
    with pytest.raises(InputError, match="left: has no queries of the task 'text-to-image'; it has: coarse"):
        compare(left, right, task="text-to-image")
    with pytest.raises(InputError, match="which task"):
        compare(right, right)


def test_a_metric_that_some_queries_lack_is_left_out(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [record("q0", 1), record("q1", 2, metrics={"mrr": 0.5, "ndcg@10": None})])
    assert list(compare(a, a, num_resamples=10).metrics) == ["mrr"]


def test_metrics_that_repeat_another_are_tested_once(tmp_path: Path) -> None:
    sides = []
    for name, seed in (("a", 0), ("b", 1)):
        rows = [record(f"q{n}", rank) for n, rank in enumerate(ranks(40, seed, 0.5))]
        for row in rows:
            row["metrics"] |= {"hit_rate@5": row["metrics"]["recall@5"], "map": row["metrics"]["mrr"]}
        sides.append(evaluation(tmp_path / name, rows))
    found = compare(*sides, num_resamples=200)
    assert list(found.metrics) == ["recall@1", "recall@5", "mrr"]
    assert found.same == {"hit_rate@5": "recall@5", "map": "mrr"}
    # Holm for three tests, not for five
    worst = min(metric.p_value for metric in found.metrics.values())
    assert min(metric.p_holm for metric in found.metrics.values()) == pytest.approx(min(1.0, 3 * worst))
    asked = compare(*sides, metrics=["map", "mrr"], num_resamples=50)
    assert list(asked.metrics) == ["map", "mrr"] and not asked.same


def test_the_coarser_clusters_are_drawn(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [record(f"q{n}", 1) for n in range(6)])
    b = evaluation(tmp_path / "b", [record(f"q{n}", 2, family=f"f{n // 3}") for n in range(6)])
    assert compare(a, b, num_resamples=10).num_clusters == compare(b, a, num_resamples=10).num_clusters == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no query"),
        ("{}", r"queries.jsonl:1: not a record of a query \(has no 'metrics'\)"),
        ("[1]", "queries.jsonl:1: not a record"),
        ('{"query": "q"', "queries.jsonl:1: not a record"),
        (json.dumps(record("q", 1) | {"rank": 0}), "rank 0 is below 1"),
        (json.dumps(record("q", 1) | {"metrics": {"mrr": math.nan}}), "a metric is not a finite number"),
        (json.dumps(record("q", 1)) + "\n\n" + json.dumps(record("q", 2)), "queries.jsonl:3: query 'q' is there twice"),
    ],
)
def test_files_that_are_no_evaluation_are_named(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "queries.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        compare(folder, folder)
    with pytest.raises(InputError, match="queries.jsonl: no such file"):
        compare(tmp_path, folder)


def test_other_settings_are_said_and_another_protocol_is_refused(tmp_path: Path) -> None:
    rows = [record(f"q{n}", n + 1) for n in range(3)]

    def side(name: str, protocol: str, num_gallery: int) -> Path:
        settings = {"protocol": protocol, "tasks": {"fine": {"num_gallery": num_gallery}}, "split": "test"}
        return evaluation(tmp_path / name, rows, settings)

    a = side("a", "standard", 10)
    assert compare(a, side("b", "standard", 99), num_resamples=10).notes == ["num gallery differs: 10 in A, 99 in B."]
    with pytest.raises(InputError, match="'standard' and B under 'm5product'"):
        compare(a, side("c", "m5product", 10), num_resamples=10)


def test_written_the_same_again_and_printed(two: tuple, tmp_path: Path) -> None:
    a, b, *_ = two
    compare(a, b, num_resamples=200, out=tmp_path / "out")
    first = (tmp_path / "out" / "compare.json").read_bytes()
    compare(a, b, num_resamples=200, out=tmp_path / "out")
    assert first == (tmp_path / "out" / "compare.json").read_bytes()
    written = json.loads(first)
    assert written["rank_1"]["num_won"] == len(written["rank_1"]["won"]) > written["rank_1"]["num_lost"]
    mean, low, high = written["metrics"]["recall@1"]["difference"]
    assert low < mean < high and [file.name for file in (tmp_path / "out").iterdir()] == ["compare.json"]
    console = Console(width=140, file=io.StringIO(), color_system=None)
    found = compare(a, b, num_resamples=200)
    print_comparison(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Task fine: 120 queries in 40 families." in text
    row = next(line for line in text.splitlines() if line.strip().startswith("R@1"))
    assert f"+{100 * found.metrics['recall@1'].difference.mean:.1f} [+" in row
    assert f"At rank 1: {len(found.won)} won" in text and "… and " in text
    assert found.won[0].first_hit_b in text and found.lost[0].first_hit_a in text
