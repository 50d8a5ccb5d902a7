"""What every page keeps to: nothing given is taken for HTML, nothing is loaded, everything can be read."""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from html_page import Page

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer, SkippedRow
from afmrl.evaluation.compare import compare
from afmrl.evaluation.evaluate import evaluate
from afmrl.matching.match import match
from afmrl.report.comparison_page import write_comparison_page
from afmrl.report.evaluation_page import write_evaluation_page
from afmrl.report.match_page import write_match_page
from afmrl.report.results_page import write_results_page
from afmrl.report.text import bounded, one_line
from afmrl.report.views import FamilyView, HitView, LadderRow, OfferView, QueryCard, ResultsView

HOSTILE = """<script>alert(1)</script> "'& drill zx4001"""
WORDS = ["red", "blue", "green", "black"]


def offers() -> list[Offer]:
    """Two offers of each of eight products, every field as hostile as a catalog allows."""
    return [
        Offer(
            f"{HOSTILE} {role} {number}",
            f"{HOSTILE} {WORDS[number % 4]} {number // 4}",
            category=f"{HOSTILE} {number % 2}",
            attributes={f"{HOSTILE} key": f"{HOSTILE} {number % 3}"},
            product_id=f"{HOSTILE} {number}",
            extra={"split": "test", "role": role, "family_id": f"{HOSTILE} {number // 4}"},
        )
        for number in range(8)
        for role in ("query", "gallery")
    ]


def run_page(folder: Path) -> Path:
    attributes = KeyAttributes(((HOSTILE, HOSTILE), (HOSTILE + "2", "x")))
    offer = OfferView(HOSTILE, HOSTILE, HOSTILE, attributes, KeyAttributes(((HOSTILE, "other"),)))
    hits = [HitView(offer, 0.5, False), HitView(OfferView(HOSTILE, HOSTILE), 0.4, True, HOSTILE)]
    view = ResultsView(
        HOSTILE,
        HOSTILE,
        [LadderRow(HOSTILE, {HOSTILE: (0.5, 0.4, 0.6)}, HOSTILE)],
        query_cards=[QueryCard(offer, hits, None, False, hits[1])],
        families=[FamilyView(HOSTILE, 3, 1, [offer])],
        skipped=[SkippedRow(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE)],
        facts=[(HOSTILE, HOSTILE)],
        notes=[HOSTILE],
        next_steps=[(HOSTILE, HOSTILE)],
    )
    return write_results_page(view, folder / "report.html")


def evaluation_page(folder: Path) -> Path:
    return write_evaluation_page(evaluate("tfidf", offers(), num_resamples=20), folder)


def comparison_page(folder: Path) -> Path:
    folders = []
    for name, title in (("a", "nothing alike"), ("b", "")):
        shown = [
            offer if offer.extra["role"] == "gallery" or not title else renamed(offer, title) for offer in offers()
        ]
        evaluate("tfidf", shown, tasks=["fine"], num_resamples=20, out=folder / f"{name} {HOSTILE.replace('/', '')}")
        folders.append(folder / f"{name} {HOSTILE.replace('/', '')}")
    comparison = compare(*folders, num_resamples=20)
    assert comparison.won  # there is something to show
    return write_comparison_page(comparison, folder, {offer.id: offer for offer in offers()})


def renamed(offer: Offer, title: str) -> Offer:
    return Offer(offer.id, title, product_id=offer.product_id, extra=offer.extra)


def match_page(folder: Path) -> Path:
    catalog = folder / "<b>.jsonl"
    write_catalog(catalog, offers())
    result = match(catalog, out=folder / "out")
    assert result.review.vetoed and result.review.groups
    result.summary["notes"].append(HOSTILE)
    return write_match_page(result, folder)


PAGES = [run_page, evaluation_page, comparison_page, match_page]


@pytest.mark.parametrize("make", PAGES)
def test_nothing_given_is_taken_for_html(make: Callable[[Path], Path], tmp_path: Path) -> None:
    html = make(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    own_scripts = 0 if make is match_page else 1  # a button to copy commands
    assert len(page.all("script")) == own_scripts
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(HOSTILE) > 5  # it is shown, as it was written
    named = [attributes["aria-label"] for _, attributes in page.elements if "aria-label" in attributes]
    assert not any("&lt;" in name for name in (*named, page.text))  # and escaped once


@pytest.mark.parametrize("make", PAGES)
def test_nothing_is_loaded(make: Callable[[Path], Path], tmp_path: Path) -> None:
    html = make(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert ("script-src 'sha256-" in policy) == bool(page.all("script"))


def test_images_have_their_text_in_an_attribute(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    card = QueryCard(OfferView("q", HOSTILE, str(tmp_path / "red.png")), [], None, False)
    view = ResultsView("t", "s", [], query_cards=[card])
    page = Page(write_results_page(view, tmp_path / "report.html").read_text(encoding="utf-8"))
    (image,) = page.all("svg", "image")
    assert image["aria-label"] == f"Image of {HOSTILE}"


def _luminance(color: str) -> float:
    color = color.lstrip("#")
    color = "".join(c * 2 for c in color) if len(color) == 3 else color
    channels = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_contrast_in_light_dark_and_print() -> None:
    css = (resources.files("afmrl.report") / "report.css").read_text(encoding="utf-8")
    palettes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(palettes) == 3
    pairs = [(ink, paper) for ink in ("ink", "soft", "accent", "right", "wrong") for paper in ("page", "paper", "tint")]
    pairs += [("soft", "right-tint"), ("right", "right-tint"), ("ink", "right-tint"), ("differ", "differ-tint")]
    for palette in palettes:
        assert set(palette) == set(palettes[0])
        for ink, paper in pairs:
            light, dark = sorted((_luminance(palette[ink]), _luminance(palette[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper, palette[ink], palette[paper])
        for line in (f"s{number}" for number in range(8)):  # lines of a chart are not text: 3 to 1
            light, dark = sorted((_luminance(palette[line]), _luminance(palette["paper"])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (line, palette[line])


def test_text_is_cut_and_cleaned() -> None:
    assert one_line("a" * 50, 10) == "a" * 9 + "…"
    assert one_line("  a\n\tb\x00\x9b ", 10) == "a b"
    assert (
        bounded("a bell \x07, reversed \u202egnp.exe, half an emoji \ud83d")
        == "a bell , reversed gnp.exe, half an emoji "
    )
