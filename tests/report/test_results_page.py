"""The page of results: what it shows, that it is safe, small and atomic, and that a browser shows it."""

import json
import os
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import SkippedRow
from afmrl.errors import InputError
from afmrl.evaluation.robustness import RobustnessScore, robustness_score
from afmrl.evaluation.significance import PairedTest
from afmrl.evaluation.slices import SliceScore, by_slice
from afmrl.report.charts import recall_curve
from afmrl.report.images import PageImages
from afmrl.report.results_page import write_results_page
from afmrl.report.views import (
    CardSample,
    Curve,
    FamilyView,
    HitView,
    LadderRow,
    MetricTable,
    OfferView,
    QueryCard,
    ResultsView,
)
from afmrl.retrieval.interval import Interval

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Forty noisy images, the largest that JPEG can make of their size; the last two have the same content."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    paths = []
    for number in range(40):
        path = folder / f"{number}.png"
        if number < 39:
            Image.fromarray(draw.integers(0, 256, (200, 240, 3), dtype=np.uint8)).save(path)
        else:
            shutil.copy(folder / "38.png", path)
        paths.append(str(path))
    return paths


def metrics(mean: float, width: float = 0.02) -> dict[str, tuple[float, float, float]]:
    return dict.fromkeys(("mrr", "recall@1", "recall@5", "recall@10"), (mean, mean - width, mean + width))


def a_card(number: int, right: bool, images: list[str], num_hits: int = 5) -> QueryCard:
    red, blue = KeyAttributes.of({"color": "red", "size": "m"}), KeyAttributes.of({"color": "blue", "size": "m"})
    hits = [
        HitView(
            OfferView(f"g{number}-{row}", f"hit {row}", images[(number * 7 + row) % len(images)], red if row else blue),
            0.9 - row / 10,
            right and row == 0,
        )
        for row in range(num_hits)
    ]
    query = OfferView(f"q{number}", f"query {number}", images[number % len(images)], red, blue)
    match = None if right else HitView(OfferView(f"g{number}-far", "the match"), 0.1, True)
    return QueryCard(query, hits, 1 if right else 12, right, match)


def slices(num_queries: int) -> dict[str, dict[str, SliceScore]]:
    draw = np.random.default_rng(0)
    values = {"recall@1": (draw.random(num_queries) < 0.6).astype(float), "mrr": draw.random(num_queries)}
    of_queries = [
        {"category": f"category {row % 30 if row % 2 else 1}", "missing": "image" if row < 5 else "none"}
        for row in range(num_queries)
    ]
    return by_slice(values, of_queries, [f"f{row // 4}" for row in range(num_queries)], num_resamples=50)


def robustness(num_queries: int) -> list[RobustnessScore]:
    draw = np.random.default_rng(0)
    plain = {"recall@1": (draw.random(num_queries) < 0.6).astype(float)}
    worse = {"recall@1": plain["recall@1"] * (draw.random(num_queries) < 0.7)}
    scores = [robustness_score(name, plain, worse, [True] * num_queries) for name in ("blurred", "no-title")]
    return [score for score in scores if score]


def skipped(number: int) -> list[SkippedRow]:
    return [SkippedRow(f"/secret/folder/o{n}.jsonl", n, "image", "no such file", f"offer {n}") for n in range(number)]


@pytest.fixture(scope="module")
def data(images: list[str]) -> ResultsView:
    curve = [(step, 1 / step) for step in range(1, 2001)]
    return ResultsView(
        title="a run",
        subtitle="on a sample",
        ladder=[
            LadderRow("untrained", metrics(0.31)),
            LadderRow("AGCL", metrics(0.554), "all stages"),
            LadderRow("AGCL + RAR", metrics(0.576)),
            LadderRow("perfect reader", metrics(0.63), kind="ceiling"),
            LadderRow("TF-IDF", {"recall@1": (0.5, 0.48, 0.52)}, kind="floor"),
        ],
        ceiling=[LadderRow("without", metrics(0.55)), LadderRow("perfect", metrics(0.63), kind="ceiling")],
        accuracy={"SFT": {"color": {"precision": 0.92, "recall": 0.9, "labeled": 400}}},
        curves=[
            Curve("AGCL loss", "step", "loss", {"train": curve, "val": curve[::100]}),
            Curve("nothing", "step", "loss", {"train": [(0, float("nan"))]}),
        ],
        tables=[
            MetricTable("Retrieval by task", [LadderRow("text-to-image", metrics(0.3))], "each its own gallery"),
            MetricTable("All metrics", [LadderRow("fine", {f"recall@{k}": (0.5, 0.4, 0.6) for k in range(1, 9)})]),
        ],
        recall_curves=[recall_curve({"untrained": np.array([1, 50, 300]), "AGCL": np.array([1, 2, 9])})],
        pair_curves=[
            Curve(
                "Pairs",
                "recall",
                "precision",
                {"AGCL": [(0.1, 1.0), (0.9, 0.5)]},
                "precision-recall",
                {"best F1": (0.75, 0.5)},
            )
        ],
        slices=slices(200),
        robustness=robustness(200),
        skipped=skipped(3),
        query_cards=[a_card(number, number % 4 != 0, images) for number in range(80)],
        families=[FamilyView("f1", 5, 1, [OfferView("a", "a", images[0]), OfferView("b", "b", images[1])])],
        facts=[("seed", "0")],
        notes=["one seed only"],
        next_steps=[("search", "afmrl search 'a < b' && echo")],
    )


def html_of(data: ResultsView, folder: Path) -> str:
    return write_results_page(data, folder / "report.html").read_text(encoding="utf-8")


def test_page_has_every_section_and_well_formed_markup(data: ResultsView, tmp_path: Path) -> None:
    page = Page(html_of(data, tmp_path))
    names = ["results", "tasks", "recall", "pairs", "slices", "robustness", "ceiling", "attributes", "training"]
    names += ["queries", "families", "skipped", "facts", "notes", "next"]
    assert [a["id"] for a in page.all("section")] == names
    assert [a["href"] for a in page.all("a")][1:] == [f"#{name}" for name in names]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert page.elements[0] == ("html", {"lang": "en"})
    assert {a["name"] for a in page.all("meta") if "name" in a} == {"viewport", "color-scheme"}
    assert "afmrl search 'a < b' && echo" in page.text


def test_parts_that_are_empty_are_left_out(tmp_path: Path) -> None:
    page = Page(html_of(ResultsView("t", "s", [LadderRow("only", metrics(0.5))]), tmp_path))
    assert [a["id"] for a in page.all("section")] == ["results"]
    assert page.all("image") == []
    Page(html_of(ResultsView("t", "s", []), tmp_path))


def test_headline_names_result_interval_and_comparison(data: ResultsView, tmp_path: Path) -> None:
    text = Page(html_of(data, tmp_path)).text
    assert "R@1 57.6 % 95 % interval [55.6, 59.6] with AGCL + RAR, against 55.4 % [53.4, 57.4] for AGCL." in text
    assert "The intervals overlap" in text
    text = Page(html_of(replace(data, compare_row="untrained"), tmp_path)).text
    assert "against 31.0 % [29.0, 33.0] for untrained. The intervals do not overlap." in text
    assert "my own words" in Page(html_of(replace(data, headline="my own words"), tmp_path)).text
    with pytest.raises(InputError, match="main_row: 'AGLC' is no row of the ladder"):
        write_results_page(replace(data, main_row="AGLC"), tmp_path / "x.html")


def test_ladder_has_headers_intervals_and_whiskers_at_their_place(data: ResultsView, tmp_path: Path) -> None:
    html = html_of(replace(data, ceiling=()), tmp_path)
    table = Page(html[html.index('<table class="ladder"') : html.index("</table>") + 8])
    assert len(table.all("th")) == 5 + 5  # the head's, and one a row
    assert all(a["scope"] in ("col", "row") for a in table.all("th"))
    assert re.findall(r'data-label="([^"]+)"', html)[:4] == ["R@1", "R@5", "R@10", "MRR"]
    assert "57.6 [55.6, 59.6]" in table.text
    assert len(table.all("svg", "whisker")) == 4 * 4 + 1  # the floor has one metric
    # R@1 runs from 0.29 to 0.65: the axis from 0.2 to 0.7; 0.31 is 22 % of the way, drawn between 4 and 104
    assert table.all("circle")[0]["cx"] == "26.0"
    assert table.all("path", "range")[0]["d"].startswith("M22.0 8H30.0")


def test_everything_given_is_escaped(tmp_path: Path, images: list[str]) -> None:
    # built past KeyAttributes.of, as hostile as it gets
    evil = OfferView(EVIL, EVIL, EVIL, KeyAttributes(((EVIL, EVIL),)), KeyAttributes(((EVIL, "x"), ("y" + EVIL, EVIL))))
    hits = [HitView(evil, 1.0, True), HitView(replace(evil, attributes=KeyAttributes(((EVIL, "z"),))), 0.5, False)]
    row, half = LadderRow(EVIL, {EVIL: (0.5, 0.4, 0.6)}, EVIL), Interval(0.5, 0.4, 0.6)
    many = {f"{EVIL}{number}": (0.5, 0.4, 0.6) for number in range(8)}
    data = ResultsView(
        title=EVIL,
        subtitle=EVIL,
        ladder=[row, replace(row, name=EVIL + "2")],
        ceiling=[row, LadderRow(EVIL, {EVIL: (0.7, 0.6, 0.8)}, kind="ceiling")],
        ceiling_note=EVIL,
        accuracy={EVIL: {EVIL: {"precision": 1.0, "recall": 0.5, "labeled": 3}}},
        curves=[Curve(EVIL, EVIL, EVIL, {EVIL: [(0, 1), (1, 2)]})],
        tables=[MetricTable(EVIL, [row], EVIL), MetricTable(EVIL, [LadderRow(EVIL, many, EVIL)])],
        ladder_title=EVIL,
        recall_curves=[Curve(EVIL, EVIL, EVIL, {EVIL: [(1, 0.1), (2, 0.2)]}, "recall", {EVIL: (1, 0.1)})],
        pair_curves=[Curve(EVIL, EVIL, EVIL, {EVIL: [(0, 1), (1, 0)]}, "precision-recall", {EVIL: (0.5, 0.5)})],
        slices={EVIL: {EVIL: SliceScore(3, 3, {EVIL: Interval(0.5, 0.4, 0.6)})}},
        robustness=[RobustnessScore(EVIL, EVIL, 3, {EVIL: half}, {EVIL: half}, {EVIL: PairedTest(half, 0.5)})],
        skipped=[SkippedRow(EVIL, 1, EVIL, EVIL, EVIL)],
        query_cards=CardSample(
            (
                QueryCard(evil, hits, 1, True, verdict=EVIL),
                QueryCard(evil, hits, None, False, replace(hits[0], label=EVIL)),
            ),
            1,
            1,
            about=EVIL,
            kinds=(EVIL, EVIL),
        ),
        families=[FamilyView(EVIL, 2, 1, [evil])],
        facts=[(EVIL, EVIL)],
        notes=[EVIL],
        next_steps=[(EVIL, EVIL)],
    )
    for headline in ("", EVIL):
        html = html_of(replace(data, headline=headline), tmp_path)
        page = Page(html)
        assert len(page.all("script")) == 1 and page.all("img") == []
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert html.count("alert(1)") > 30  # it is shown, though


def test_text_that_no_browser_could_show_does_not_stop_the_report(data: ResultsView, tmp_path: Path) -> None:
    title = "half an emoji \ud83d, a bell \x07, reversed \u202egnp.exe, long " + "x" * 100_000
    card = QueryCard(OfferView("q", title), [], None, False)
    page = Page(html_of(replace(data, query_cards=[card], title=title, next_steps=["\ud83d"]), tmp_path))
    assert "half an emoji , a bell , reversed gnp.exe, long xxx" in page.text
    assert not re.search("[\x07\ud83d\u202e]", page.text)
    assert max(len(word) for word in page.text.split()) < 200


def test_nothing_is_fetched(data: ResultsView, tmp_path: Path) -> None:
    html = html_of(data, tmp_path)
    page = Page(html)
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
                assert value.startswith(("#", "data:")), (tag, name, value[:80])
            assert "://" not in value, (tag, name, value[:80])
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy


def test_images_are_small_embedded_once_and_named(data: ResultsView, tmp_path: Path, images: list[str]) -> None:
    page = Page(html_of(data, tmp_path))
    embedded = page.all("image")
    assert len(embedded) == 39  # forty files, two of the same content
    assert {a["href"][:23] for a in embedded} == {"data:image/jpeg;base64,"}
    assert {(a["width"], a["height"]) for a in embedded} == {("160", "133")}
    ids = {a["id"] for a in embedded}
    assert len(page.all("use")) > 300 and {a["href"][1:] for a in page.all("use")} <= ids
    shown = page.all("svg", "image")
    assert len(shown) == len(page.all("use"))
    assert all(a["role"] == "img" and a["aria-label"].startswith("Image of ") for a in shown)


def test_image_that_cannot_be_shown_is_counted(data: ResultsView, tmp_path: Path, images: list[str]) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    card = QueryCard(OfferView("q", "t", str(broken)), [HitView(OfferView("h", "t", "/gone.png"), 1, True)], 1, True)
    page = Page(html_of(replace(data, query_cards=[card], families=[]), tmp_path))
    assert page.all("image") == []
    assert "Images that could not be opened and are not shown: 2." in page.text
    store = PageImages(max_bytes=40_000)
    shown = [store.thumbnail(path) is not None for path in images[:4]]
    assert shown[0] and not shown[3]
    assert store.num_bytes <= 40_000 and store.num_left_out == shown.count(False)
    assert len(store.embedded) == shown.count(True)


def test_cards_say_right_and_wrong_in_words(data: ResultsView, tmp_path: Path, images: list[str]) -> None:
    cards = [a_card(0, True, images), a_card(1, False, images), replace(a_card(2, False, images), rank_of_correct=None)]
    page = Page(html_of(replace(data, query_cards=cards), tmp_path))
    assert [a["class"] for a in page.all("article")] == ["card right", "card wrong", "card wrong"]
    assert "✓ right" in page.text and "✗ wrong, the match is at rank 12" in page.text
    assert "✗ wrong, no match among the hits kept" in page.text
    assert len(page.all("li", "match")) == 3 and page.text.count("✓ match") == 3
    assert [a["class"] for a in page.all("li", "beyond")] == ["hit match beyond"] * 2
    assert "All 3 queries are shown." in page.text
    assert page.text.count("Show ") == 3 and "Wrong 2" in page.text


def test_ten_thousand_queries_stay_small(data: ResultsView, tmp_path: Path) -> None:
    # every image of the page is another one, of noise: the largest page that images can make
    draw = np.random.default_rng(1)
    paths = []
    for number in range(600):
        paths.append(str(tmp_path / f"{number}.bmp"))
        Image.fromarray(draw.integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(paths[-1])
    long_title = "title " * 1000
    cards = []
    for number in range(10_000):
        card = a_card(number, number % 3 != 0, paths)
        cards.append(replace(card, query=replace(card.query, title=long_title)))
    many = [(step, random.random()) for step in range(100_000)]
    draw_ranks = {f"row {row}": draw.integers(1, 1000, 10_000) for row in range(10)}
    big = replace(
        data,
        query_cards=cards,
        curves=[Curve("c", "x", "y", {"a": many})] * 8,
        recall_curves=[recall_curve(draw_ranks)],
        pair_curves=[Curve("p", "recall", "precision", {"a": sorted(many)}, "precision-recall")],
        slices=slices(10_000),
        robustness=robustness(10_000),
        skipped=skipped(10_000),
        notes=["note " * 50] * 5000,
    )
    html = html_of(big, tmp_path)
    assert len(html.encode()) < 15_000_000
    page = Page(html)
    assert "10,000 rows were not usable" in page.text and "Show the first 50" in page.text
    assert "offer 49" in page.text and "offer 50" not in page.text
    assert "other (3 categories)" in page.text
    assert (
        "A sample of 60 of 10,000 queries: 30 of the 6,666 answered right and 30 of the 3,334 answered wrong"
        in page.text
    )
    assert len(page.all("article")) == 60
    assert "… and 4,940 more." in page.text


def test_curves_are_drawn_thinned_and_described(data: ResultsView, tmp_path: Path) -> None:
    html = html_of(data, tmp_path)
    training = Page(html[html.index('<section id="training"') : html.index('<section id="queries"')])
    assert len(training.all("figure")) == 1  # the chart without a finite point is left out
    lines = [a for a in training.all("path", "line") if a["d"].count("L") > 1]
    assert [a["class"] for a in lines] == ["line raw s0", "line s0", "line s1"]
    assert all(a["d"].count("L") <= 300 for a in lines)
    assert "nan" not in html[html.index("<figure") : html.index("</figure>")]
    assert re.search(r"<desc[^>]*>loss over step. train: [\d.]+ to [\d.]+; val: 1 to [\d.e-]+</desc>", html)
    y = [float(point.split()[1]) for point in re.split("[ML]", lines[2]["d"])[1:]]
    assert y == sorted(y) and y[-1] - y[0] > 100  # a falling loss falls on the page: y grows downwards


def section(html: str, name: str) -> Page:
    start = html.index(f'<section id="{name}"')
    return Page(html[start : html.index("</section>", start) + 10])


def test_recall_over_k_grows_by_factors(data: ResultsView, tmp_path: Path) -> None:
    page = section(html_of(data, tmp_path), "recall")
    assert "untrained 33.3 → 66.7" in page.text and "AGCL 33.3 → 100.0" in page.text
    line = page.all("path", "s1")[-1]["d"]  # AGCL: ranks 1, 2, 9
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", line)[1:]]
    assert len(points) == 100
    x = [x for x, _ in points]
    assert x[9] - x[0] == pytest.approx(x[99] - x[9], abs=0.2)  # as far from 1 to 10 as from 10 to 100
    heights = [y for _, y in points]
    assert heights[7] > heights[8] == heights[99] and heights[0] > heights[1] == heights[7]


def test_pairs_have_precision_over_recall_and_the_best_f1(data: ResultsView, tmp_path: Path) -> None:
    page = section(html_of(data, tmp_path), "pairs")
    assert "best F1 recall 75, precision 50" in page.text
    # the frame is 322 wide from 46 on and 162 high from 10 on; both axes run from 0 to 1
    assert [(a["cx"], a["cy"]) for a in page.all("circle", "mark")][-1] == ("287.5", "91.0")
    assert page.all("path", "line")[-1]["d"] == "M78.2 10.0L335.8 91.0"


def test_slices_have_whiskers_and_few_queries_are_grey(data: ResultsView, tmp_path: Path) -> None:
    page = section(html_of(data, tmp_path), "slices")
    assert [a["class"] for a in page.all("tr", "group")] == ["group", "group"]
    rows = sum(len(values) for values in data.slices.values())
    few = sum(s.num_queries < 30 or s.num_clusters < 10 for values in data.slices.values() for s in values.values())
    assert 0 < few < rows
    assert len(page.all("tr", "few")) == few and len(page.all("svg", "whisker")) == 2 * rows
    assert len(page.all("path", "reference")) == 2 * rows
    assert "nothing: image and title 195 queries, 49 families" in page.text
    score = data.slices["missing"]["image"]
    assert (
        score.num_clusters < 10
        and f"the image 5 queries, 2 families {100 * score.metrics['recall@1'].mean:.1f}" in (page.text)
    )
    values = Page(html_of(replace(data, slice_metrics=["mrr"]), tmp_path))
    assert len([a for a in values.all("td") if a.get("data-label") == "MRR"]) > len(
        [a for a in page.all("td") if a.get("data-label") == "MRR"]
    )
    assert "R@1" not in section(html_of(replace(data, slice_metrics=["mrr"]), tmp_path), "slices").text


def test_the_line_across_a_slice_is_the_mean_of_its_group(tmp_path: Path) -> None:
    scores = {
        "yes": SliceScore(300, 300, {"recall@1": Interval(0.4, 0.3, 0.5)}),
        "no": SliceScore(100, 100, {"recall@1": Interval(0.8, 0.7, 0.9)}),
    }
    page = section(html_of(ResultsView("t", "s", [], slices={"sibling": scores}), tmp_path), "slices")
    # mean 0.5 on an axis from 0.3 to 0.9: a third of 100, from 4 on
    assert [a["d"] for a in page.all("path", "reference")] == ["M37.3 1V15"] * 2


def test_robustness_shows_before_after_and_the_paired_difference(data: ResultsView, tmp_path: Path) -> None:
    page = section(html_of(data, tmp_path), "robustness")
    score = data.robustness[0]
    d = score.difference["recall@1"].difference
    assert d.high < 0
    assert f"{100 * score.plain['recall@1'].mean:.1f} [" in page.text
    assert f"−{-100 * d.mean:.1f} [−{-100 * d.low:.1f}, −{-100 * d.high:.1f}]" in page.text
    assert "Gaussian blur" in page.text and "200 queries changed" in page.text
    assert {a["d"] for a in page.all("path", "reference")} == {"M54.0 1V15"}  # no difference: the middle


def test_tables_with_many_metrics_are_turned(data: ResultsView, tmp_path: Path) -> None:
    page = section(html_of(data, tmp_path), "tasks")
    assert "Retrieval by task each its own gallery" in page.text and "All metrics" in page.text
    assert len(page.all("table", "ladder")) == 1
    (turned,) = page.all("table", "turned")
    assert len([a for a in page.all("th") if a.get("scope") == "row"]) == 1 + 8 and turned
    rows = [LadderRow(name, {f"m{k}": (0.5, 0.4, 0.6) for k in range(9)}) for name in "ab"]
    page = section(html_of(replace(data, tables=[MetricTable("wide", rows)]), tmp_path), "tasks")
    assert len(page.all("div", "scroll")) == 1


def test_skipped_rows_are_listed_without_folders(data: ResultsView, tmp_path: Path) -> None:
    html = html_of(data, tmp_path)
    page = section(html, "skipped")
    assert (
        "3 rows were not usable and left out, or used without an image." in page.text
        and "o2.jsonl:2 offer 2 image: no such file" in page.text
    )
    assert page.all("details") == [] and "secret" not in html
    many = section(html_of(replace(data, skipped=skipped(9), num_skipped=700), tmp_path), "skipped")
    assert "700 rows were" in many.text and "Show the first 9" in many.text and len(many.all("details")) == 1
    none = html_of(replace(data, skipped=()), tmp_path)
    assert 'id="skipped"' not in none


def test_single_rows_and_tasks_have_their_heading(data: ResultsView, tmp_path: Path) -> None:
    assert "<h2>Results, rung by rung</h2>" in html_of(data, tmp_path)
    assert "<h2>Results</h2>" in html_of(replace(data, ladder=data.ladder[-2:], compare_row=""), tmp_path)
    titled = replace(data, ladder_title="Results, task by task")
    assert "<h2>Results, task by task</h2>" in html_of(titled, tmp_path)


def test_written_atomically(data: ResultsView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    write_results_page(data, path)
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_results_page(replace(data, title="another"), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="is a folder"):
        write_results_page(data, tmp_path)


def test_same_data_same_bytes(data: ResultsView, tmp_path: Path) -> None:
    assert html_of(data, tmp_path) == html_of(data, tmp_path / "again")


def _browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("no chromium: the report's browser tests must run in CI (apt-get install chromium)")
    pytest.skip("no chromium here (apt-get install chromium): the report is not opened in a browser")


def _open(path: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what the browser wrote to the console."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=3000",
        "--dump-dom",
    ]
    command = [_browser(), *flags, f"--user-data-dir={profile}", *options, path.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def _requests(log: Path) -> list[str]:
    """Addresses that a page asked for (the browser's own errands, which no page initiates, and the page left out)."""
    events = json.loads(log.read_text(encoding="utf-8", errors="replace"))["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return sorted({a["url"] for a in asked if a["initiator"] != "not an origin" and not a["url"].startswith("file:")})


def test_browser_shows_the_page_without_errors(data: ResultsView, tmp_path: Path) -> None:
    html_of(data, tmp_path)
    log = tmp_path / "net.json"
    dom, console = _open(tmp_path / "report.html", tmp_path / "profile", f"--log-net-log={log}")
    assert console == []
    assert _requests(log) == []
    assert '<button type="button">Copy</button>' in dom  # its script may run under its own policy
    assert dom.count("<article") == 60

    # the test can fail: a script that the policy does not know is refused, and the console says so
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "evil.html").write_text(html.replace("</main>", "<script>document.title = 'evil'</script></main>"))
    dom, console = _open(tmp_path / "evil.html", tmp_path / "profile")
    assert "<title>evil</title>" not in dom and "Content Security Policy" in " ".join(console)
    # and so it can for requests: without the policy an image from elsewhere is asked for, and the log has it
    image = html.replace("</main>", '<img src="http://afmrl.invalid/x.png"></main>')
    (tmp_path / "open.html").write_text(re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", image))
    _open(tmp_path / "open.html", tmp_path / "profile", f"--log-net-log={log}")
    assert _requests(log) == ["http://afmrl.invalid/x.png"]


def test_browser_filters_and_fits_a_phone(data: ResultsView, tmp_path: Path) -> None:
    wide = MetricTable(
        "wide", [LadderRow(name, {f"m{k}": (0.5, 0.4, 0.6) for k in range(9)}, "a note") for name in "ab"]
    )
    html = html_of(replace(data, skipped=skipped(20), tables=[*data.tables, wide]), tmp_path)
    probe = """<script>addEventListener("load", () => {
      const inner = document.querySelector("iframe").contentDocument, shown = css =>
        [...inner.querySelectorAll(css)].filter(e => getComputedStyle(e).display !== "none").length;
      inner.querySelectorAll("details").forEach(block => { block.open = true; });
      const wide = css => [...inner.querySelectorAll(css)].filter(e => e.getBoundingClientRect().right > 391).length;
      const visible = css => [...inner.querySelectorAll(css)].filter(e => e.getBoundingClientRect().width > 25).length;
      const result = {wide: wide("main *:not(.scroll *)"),
        whiskers: [visible(".whisker"), inner.querySelectorAll(".whisker").length],
        charts: visible("figure.chart > svg"), width: inner.documentElement.scrollWidth,
        all: [shown(".card.right"), shown(".card.wrong")]};
      for (const name of ["right", "wrong"]) {
        inner.querySelector("#show-" + name).click();
        result[name] = [shown(".card.right"), shown(".card.wrong")];
      }
      const box = inner.querySelector(".card.wrong .image").getBoundingClientRect();
      result.image = [box.width > 20, box.height > 20];
      document.body.dataset.result = JSON.stringify(result);
    })</script>"""
    frame = f'<iframe style="width:390px;height:900px;border:0" srcdoc="{escape(html)}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html><body>{frame}{probe}</body>", encoding="utf-8")
    dom, console = _open(tmp_path / "frame.html", tmp_path / "profile")
    assert console == []
    found = re.search(r'data-result="([^"]+)"', dom)
    assert found, dom[-2000:]
    result = json.loads(found.group(1).replace("&quot;", '"'))
    assert result["width"] <= 390 and result["wide"] == 0  # nothing is cut off on the right
    assert result["whiskers"][0] == result["whiskers"][1] > 80  # none shrinks to nothing
    assert result["charts"] == 3
    assert result["all"] == [40, 20]  # of 80 queries 20 are wrong: right ones fill the page up
    assert result["right"] == [40, 0] and result["wrong"] == [0, 20]
    assert result["image"] == [True, True]


def test_browser_squeezes_no_name_where_metrics_are_many(data: ResultsView, tmp_path: Path) -> None:
    tables = []
    for num in (4, 6, 12):
        row = LadderRow("image-to-product", {f"m{k}": (0.5, 0.4, 0.6) for k in range(num)}, "a note of some words")
        tables.append(MetricTable(f"{num} metrics", [row, replace(row, name="fine")]))
    html = html_of(replace(data, tables=tables), tmp_path)
    probe = """<script>addEventListener("load", () => {
      const inner = document.querySelector("iframe").contentDocument;
      const names = [...inner.querySelectorAll(".ladder tbody th[scope=row]")].map(e => e.getBoundingClientRect());
      document.body.dataset.result = JSON.stringify({name: Math.min(...names.map(box => box.width)),
        height: Math.max(...names.map(box => box.height)), width: inner.documentElement.scrollWidth});
    })</script>"""
    for width in (1280, 800):
        frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(html)}"></iframe>'
        (tmp_path / "frame.html").write_text(f"<!doctype html><body>{frame}{probe}</body>", encoding="utf-8")
        dom, _ = _open(tmp_path / "frame.html", tmp_path / "profile")
        found = re.search(r'data-result="([^"]+)"', dom)
        assert found, dom[-2000:]
        result = json.loads(found.group(1).replace("&quot;", '"'))
        assert result["name"] > 120 and result["height"] < 200
        assert result["width"] <= width  # the wide table scrolls, the page does not


def test_given_sample_is_taken_as_it_is(data: ResultsView, tmp_path: Path, images: list[str]) -> None:
    sample = CardSample((a_card(1, True, images), a_card(2, False, images)), 700, 100, seed=5)
    text = Page(html_of(replace(data, query_cards=sample), tmp_path)).text
    assert "A sample of 2 of 800 queries: 1 of the 700 answered right and 1 of the 100 answered wrong" in text
