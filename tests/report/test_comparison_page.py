"""The page of a comparison: the queries that only one evaluation answers, with their images."""

import json
from pathlib import Path

from afmrl.data.offer import Offer
from afmrl.evaluation.compare import compare
from afmrl.report.comparison_page import write_comparison_page
from conftest import save_image


def evaluation(folder: Path, ranks: list[int]) -> Path:
    folder.mkdir()
    with open(folder / "queries.jsonl", "w", encoding="utf-8") as file:
        for number, rank in enumerate(ranks):
            metrics = {"recall@1": float(rank == 1), "mrr": 1 / rank}
            row = {"query": f"q{number}", "rank": rank, "num_relevant": 1, "metrics": metrics}
            file.write(json.dumps({**row, "first_hit": f"g-{number}-{rank}"}) + "\n")
    return folder


def test_a_page_shows_the_changed_queries_with_their_images(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [1, 2, 3, 4] * 20)
    b = evaluation(tmp_path / "b", [3, 1, 1, 1] * 20)
    found = compare(a, b, num_resamples=100)
    query = found.won[0]
    offers = {
        query.query: Offer(query.query, title="the query <b>", image=str(save_image(tmp_path / "q.png"))),
        query.first_hit_a: Offer(query.first_hit_a, title="what A found"),
    }
    html = write_comparison_page(found, tmp_path / "out", offers, num_cards=200).read_text(encoding="utf-8")
    assert html.count("<article") == len(found.won) + len(found.lost)
    assert "the query &lt;b&gt;" in html and "what A found" in html and html.count("<image ") == 1
    assert f"✓ won: rank {query.rank_a} in A, 1 in B" in html and "first hit of A" in html
    assert f"{len(found.won)} queries are right at rank 1 only in B, {len(found.lost)} only in A" in html
    assert "B is better" in html and ">nan<" not in html and "Won <span>" in html
    sampled = write_comparison_page(found, tmp_path / "few", {}, num_cards=4).read_text(encoding="utf-8")
    assert sampled.count("<article") == 4 and "A sample of 4 is shown." in sampled
