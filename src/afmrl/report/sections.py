"""The report's sections as HTML. Everything that a user or a model wrote goes through `text`."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import PurePath

from afmrl.evaluation.tables import interval_text, ordered_metrics, percent
from afmrl.report.charts import line_chart, share_bar
from afmrl.report.gallery import offer_image, query_section
from afmrl.report.images import ImageStore
from afmrl.report.report import CardSample, Curve, LadderRow, ReportData
from afmrl.report.tables import ladder_table, metric_tables, robustness_table, slice_table
from afmrl.report.tables import metric as metric_name
from afmrl.report.text import MAX_TITLE, MAX_VALUE, text

MAX_NOTES, MAX_FACTS, MAX_SKIPPED = 60, 200, 50  # entries shown
FOLDED_FROM = 8  # skipped rows, from which they are listed when asked for
FOOTER = "Made by afmrl. This page loads nothing: no scripts, fonts or images from elsewhere."


def render_page(data: ReportData, sample: CardSample) -> str:
    """The whole page."""
    images = ImageStore()
    sections = [  # (id, link, HTML); the empty ones are left out
        ("results", "Results", _ladder_section(data)),
        ("tasks", "Tasks", _tasks_section(data)),
        ("recall", "Recall over k", _recall_section(data)),
        ("pairs", "Pairs", _pairs_section(data)),
        ("slices", "Slices", _slices_section(data)),
        ("robustness", "Robustness", _robustness_section(data)),
        ("ceiling", "What there was to win", _ceiling_section(data)),
        ("attributes", "Attributes", _accuracy_section(data)),
        ("training", "Training", _training_section(data)),
        ("queries", "Queries", query_section(sample, images)),
        ("families", "Hardest families", _family_section(data, images)),
        ("skipped", "Skipped rows", _skipped_section(data)),
        ("facts", "Facts", _facts_section(data)),
        ("notes", "Read with care", _notes_section(data, images)),
        ("next", "Next", _next_section(data)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{name}">{link}</a></li>' for name, link, _ in sections)
    body = "".join(f'<section id="{name}">{html}</section>' for name, _, html in sections)
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark"><title>{text(data.title, MAX_TITLE)}</title>\n'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>\n<body>\n'
        f'<a class="skip" href="#main">Skip to the results</a>{images.definitions()}\n'
        f'<header><h1>{text(data.title, MAX_TITLE)}</h1><p class="subtitle">{text(data.subtitle)}</p>'
        f'<p class="headline">{_headline(data)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f'<main id="main">{body}</main>\n<footer><p>{FOOTER}</p></footer>\n'
        f"<script>{script}</script>\n</body></html>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("afmrl.report") / name).read_text(encoding="utf-8")


def main_and_compared(data: ReportData) -> tuple[LadderRow | None, LadderRow | None]:
    """The row that is the result, and the row it is compared with (None where there is no other)."""
    rungs = [row for row in data.ladder if row.kind == "rung"] or list(data.ladder)
    if not rungs:
        return None, None
    by_name = {row.name: row for row in data.ladder}
    main = by_name.get(data.main_row, rungs[-1])
    before = rungs[rungs.index(main) - 1] if main in rungs[1:] else None
    compared = by_name.get(data.compare_row, before)
    return main, compared if compared is not main else None


def _headline(data: ReportData) -> str:
    if data.headline:
        return text(data.headline)
    main, compared = main_and_compared(data)
    metrics = ordered_metrics([main.metrics]) if main else ()
    if main is None or not metrics:
        return "This run has no result."
    metric = metrics[0]
    ours = main.metrics[metric]
    sentence = (
        f'<strong>{metric_name(metric)} {percent(ours[0])} %</strong> <span class="range">95 % interval '
        f"{interval_text(ours)}</span> with {text(main.name, MAX_TITLE)}"
    )
    if compared is None or metric not in compared.metrics:
        return sentence + "."
    theirs = compared.metrics[metric]
    apart = ours[1] > theirs[2] or theirs[1] > ours[2]
    return (
        f'{sentence}, against {percent(theirs[0])} % <span class="range">{interval_text(theirs)}</span> for '
        f"{text(compared.name, MAX_TITLE)}. "
        + (
            "The intervals do not overlap."
            if apart
            else "The intervals overlap: whether the two differ is for a paired test to say."
        )
    )


def _ladder_section(data: ReportData) -> str:
    if not data.ladder:
        return ""
    main, _ = main_and_compared(data)
    kinds = {row.kind for row in data.ladder}
    marks = ["<b>●</b> a rung"] * bool(kinds - {"rung"})
    marks += ["<b>○</b> a ceiling (told what a perfect reader would know)"] * ("ceiling" in kinds)
    marks += ["<b>■</b> a floor (no learning)"] * ("floor" in kinds)
    caption = ". ".join(["Percent, with 95 % interval", *([", ".join(marks)] if marks else [])])
    title = "Results, rung by rung" if sum(row.kind == "rung" for row in data.ladder) > 1 else "Results"
    return f"<h2>{text(data.ladder_title, MAX_TITLE) or title}</h2>" + ladder_table(data.ladder, caption, main)


def _ceiling_section(data: ReportData) -> str:
    if not data.ceiling:
        return ""
    first, metrics = data.ceiling[0], ordered_metrics([row.metrics for row in data.ceiling])
    sentence = ""
    if metrics and len(data.ceiling) > 1 and metrics[0] in first.metrics:
        metric = metrics[0]
        best = max(data.ceiling, key=lambda row: row.metrics.get(metric, (-math.inf,))[0])
        if best is not first:
            gap = best.metrics[metric][0] - first.metrics[metric][0]
            sentence = (
                f"<p>From {metric_name(metric)} {percent(first.metrics[metric][0])} % ({text(first.name)}) to "
                f"{percent(best.metrics[metric][0])} % ({text(best.name)}): <b>{100 * gap:.1f} points</b> were there "
                "to be won.</p>"
            )
        else:
            sentence = f"<p>Attributes had nothing to win here: no row beats “{text(first.name)}”.</p>"
    note = f"<p>{text(data.ceiling_note)}</p>" if data.ceiling_note else ""
    return f"<h2>What there was to win</h2>{sentence}{note}" + ladder_table(data.ceiling, "Percent, with 95 % interval")


def _accuracy_section(data: ReportData) -> str:
    accuracy = {name: keys for name, keys in (data.accuracy or {}).items() if keys}
    if not accuracy:
        return ""
    keys = list(dict.fromkeys(key for of_generator in accuracy.values() for key in of_generator))
    over = "".join(f'<th scope="colgroup" colspan="2">{text(name)}</th>' for name in accuracy)
    under = '<th scope="col">precision</th><th scope="col">recall</th>' * len(accuracy)
    body = []
    for key in keys:
        cells = "".join(
            f"<td>{percent(value)}{share_bar(value)}</td>"
            for of_generator in accuracy.values()
            for value in (of_generator.get(key, {}).get(part, math.nan) for part in ("precision", "recall"))
        )
        labeled = max(of_generator.get(key, {}).get("labeled", 0) for of_generator in accuracy.values())
        body.append(f'<tr><th scope="row">{text(key)}</th><td>{labeled:,.0f}</td>{cells}</tr>')
    return (
        "<h2>How right the generated attributes are</h2><p>In percent. Precision: of the values written, the share "
        "that the label confirms; a value for what cannot be seen or read counts as wrong. Recall: of the labeled "
        "values, the share that was written. Retrieval that rises while these fall is a private code between generator "
        "and embedder.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Accuracy of attributes">'
        '<table class="plain accuracy"><thead><tr><th scope="col" rowspan="2">Key</th>'
        f'<th scope="col" rowspan="2">Labeled</th>{over}</tr><tr>{under}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _tasks_section(data: ReportData) -> str:
    return f"<h2>Tasks and protocols</h2>{metric_tables(data.tables)}" if data.tables else ""


def _charts(curves: Sequence[Curve], name: str, css: str = "charts") -> str:
    charts = "".join(line_chart(curve, f"{name}{number}") for number, curve in enumerate(curves))
    return f'<div class="{css}">{charts}</div>' if charts else ""


def _recall_section(data: ReportData) -> str:
    charts = _charts(data.recall_curves, "recall", "charts large")
    how = "The share of queries with a match among the first k hits; k grows by factors. Numbers: first k → last k."
    return f'<h2>Recall over k</h2><p class="quiet">{how}</p>{charts}' if charts else ""


def _pairs_section(data: ReportData) -> str:
    charts = _charts(data.pair_curves, "pairs", "charts large")
    how = "Pairs of offers by falling score: of those above a threshold how many are one product (precision), and how "
    how += "many of all that are (recall)."
    return f'<h2>Duplicate pairs</h2><p class="quiet">{how}</p>{charts}' if charts else ""


def _slices_section(data: ReportData) -> str:
    scores = [score for values in data.slices.values() for score in values.values()]
    if not scores:
        return ""
    present = ordered_metrics([dict.fromkeys(score.metrics, ()) for score in scores])
    default = [name for name in ("recall@1", "mrr") if name in present] or present[:2]
    metrics = [name for name in data.slice_metrics if name in present] or list(default)
    main, _ = main_and_compared(data)
    of_row = f" Of “{text(main.name, MAX_TITLE)}”." if main and len(data.ladder) > 1 else ""
    return (
        "<h2>Slices</h2><p>The same queries, told apart by what they are. Slices overlap and were not chosen before: "
        f"what stands out here is a reason to look, not yet a finding.{of_row}</p>" + slice_table(data.slices, metrics)
    )


def _robustness_section(data: ReportData) -> str:
    if not data.robustness:
        return ""
    present = ordered_metrics([dict.fromkeys(score.difference, ()) for score in data.robustness])
    scores = [score for score in data.robustness if present[0] in score.difference]
    return (
        "<h2>Robustness</h2><p>The queries were changed, the gallery was not; the same queries are compared before "
        f"and after.</p>{robustness_table(scores, present[0])}"
    )


def _training_section(data: ReportData) -> str:
    charts = _charts(data.curves, "c")
    how = "Numbers: first → last. Long curves: every point pale, their running mean strong."
    return f'<h2>Training</h2><p class="quiet">{how}</p>{charts}' if charts else ""


def _family_section(data: ReportData, images: ImageStore) -> str:
    if not data.families:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(family.name, MAX_VALUE)}</th><td>{family.num_right:,} of {family.num_queries:,}'
        f"{share_bar(family.num_right / max(family.num_queries, 1))}</td>"
        f'<td><div class="strip">{"".join(offer_image(offer, images) for offer in family.offers)}</div></td></tr>'
        for family in data.families
    )
    return (
        "<h2>Hardest families</h2><p>Siblings that were taken for one another most often.</p>"
        '<table class="plain families"><thead><tr><th scope="col">Family</th><th scope="col">Right at rank 1</th>'
        f'<th scope="col">Some of its siblings</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _skipped_section(data: ReportData) -> str:
    shown, total = list(data.skipped)[:MAX_SKIPPED], max(data.num_skipped, len(data.skipped))
    if not total:
        return ""
    count = "One row was" if total == 1 else f"{total:,} rows were"
    which = f"the first {len(shown)}" if len(shown) < total else "all of them"
    rows = "".join(
        f'<tr><th scope="row">{text(PurePath(row.file).name, MAX_TITLE)}:{row.row}</th>'
        f"<td>{text(row.id, MAX_VALUE) or '–'}</td>"
        f"<td>{text(row.field, MAX_VALUE)}: {text(row.reason, MAX_TITLE)}</td></tr>"
        for row in shown
    )
    table = (
        '<table class="plain skipped"><thead><tr><th scope="col">File and row</th><th scope="col">Id</th>'
        f'<th scope="col">Reason</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    if len(shown) > FOLDED_FROM:
        table = f"<details><summary>Show {which}</summary>{table}</details>"
    return f"<h2>Skipped rows</h2><p>{count} not usable and left out.</p>{table if rows else ''}"


def _facts_section(data: ReportData) -> str:
    if not data.facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(label, MAX_TITLE)}</th><td>{text(value)}</td></tr>'
        for label, value in list(data.facts)[:MAX_FACTS]
    )
    return f'<h2>Facts</h2><table class="plain facts"><tbody>{rows}</tbody></table>'


def _notes_section(data: ReportData, images: ImageStore) -> str:
    notes = list(data.notes)
    shown = [text(note) for note in notes[:MAX_NOTES]]
    if len(notes) > MAX_NOTES:
        shown.append(f"… and {len(notes) - MAX_NOTES:,} more.")
    if images.num_unreadable:
        shown.append(f"Images that could not be opened and are not shown: {images.num_unreadable:,}.")
    if images.num_left_out:
        shown.append(f"Images that are not shown, to keep this page small: {images.num_left_out:,}.")
    return f"<h2>Read with care</h2><ul>{''.join(f'<li>{note}</li>' for note in shown)}</ul>" if shown else ""


def _next_section(data: ReportData) -> str:
    if not data.next_steps:
        return ""
    steps: list[str] = []
    for step in data.next_steps:
        about, command = ("", step) if isinstance(step, str) else step
        lines = f"<p>{text(about)}</p>" if about else ""
        steps.append(f'{lines}<div class="command"><pre tabindex="0"><code>{escape(command)}</code></pre></div>')
    return f"<h2>What to type next</h2>{''.join(steps)}"
