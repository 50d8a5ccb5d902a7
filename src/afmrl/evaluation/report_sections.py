"""The report's sections as HTML. Everything that a user or a model wrote goes through `text`."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from html import escape
from importlib import resources

from afmrl.attributes import KeyAttributes, compare
from afmrl.evaluation.report import CardSample, HitView, LadderRow, OfferView, QueryCard, ReportData
from afmrl.evaluation.report_charts import domain, line_chart, share_bar, whisker
from afmrl.evaluation.report_pictures import PictureStore
from afmrl.evaluation.tables import interval_text, metric_label, ordered_metrics, percent

MAX_TITLE, MAX_VALUE, MAX_TEXT = 160, 60, 2_000  # characters shown
MAX_NOTES, MAX_FACTS, MAX_PAIRS = 60, 200, 16  # entries shown
FOOTER = "Made by afmrl. This page loads nothing: no scripts, fonts or pictures from elsewhere."
_UNSHOWN = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
LEGEND = (
    '<p class="key"><span class="ne">≠ differs from the query</span> <span class="one">+ only here</span> '
    '<span class="one">− the query has it, this one does not</span> <span class="eq">= agrees</span></p>'
)


def text(value: object, limit: int = MAX_TEXT) -> str:
    """Escaped for HTML; control characters, bidi overrides and lone surrogates dropped; cut at `limit` characters.

    >>> text("<b>&\\x00")
    '&lt;b&gt;&amp;'
    """
    shown = " ".join(_UNSHOWN.sub("", str(value)[: 4 * limit]).split())
    return escape(shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…")


def render_page(data: ReportData, sample: CardSample) -> str:
    """The whole page."""
    pictures = PictureStore()
    sections = [  # (id, link, HTML); the empty ones are left out
        ("results", "Results", _ladder_section(data)),
        ("ceiling", "What there was to win", _ceiling_section(data)),
        ("attributes", "Attributes", _accuracy_section(data)),
        ("training", "Training", _training_section(data)),
        ("queries", "Queries", _query_section(sample, pictures)),
        ("families", "Hardest families", _family_section(data, pictures)),
        ("facts", "Facts", _facts_section(data)),
        ("notes", "Read with care", _notes_section(data, pictures)),
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
        f'<a class="skip" href="#main">Skip to the results</a>{pictures.definitions()}\n'
        f'<header><h1>{text(data.title, MAX_TITLE)}</h1><p class="subtitle">{text(data.subtitle)}</p>'
        f'<p class="headline">{_headline(data)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f'<main id="main">{body}</main>\n<footer><p>{FOOTER}</p></footer>\n'
        f"<script>{script}</script>\n</body></html>\n"
    )


def _metric(name: str) -> str:
    return text(metric_label(name), MAX_VALUE)


def _asset(name: str) -> str:
    return (resources.files("afmrl.evaluation") / "report_assets" / name).read_text(encoding="utf-8")


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
        f'<strong>{_metric(metric)} {percent(ours[0])} %</strong> <span class="range">95 % interval '
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


def _ladder_table(rows: Sequence[LadderRow], caption: str, main: LadderRow | None = None) -> str:
    metrics = ordered_metrics([row.metrics for row in rows])
    ends = {metric: domain(rows, metric) for metric in metrics}
    head = "".join(
        f'<th scope="col" role="columnheader">{_metric(metric)}<span class="ends" aria-hidden="true">'
        f"<span>{100 * low:g}</span><span>{100 * high:g}</span></span></th>"
        for metric, (low, high) in ends.items()
    )
    # on a phone the table's head is not to be seen, and with it the ends of the scales
    scales = ", ".join(f"{_metric(m)} {100 * ends[m][0]:g} to {100 * ends[m][1]:g}" for m in metrics)
    caption += f'<span class="narrow" aria-hidden="true">. Scales: {scales}</span>'
    body = []
    for row in rows:
        cells = []
        for metric in metrics:
            label = _metric(metric)
            if metric not in row.metrics:
                cells.append(f'<td role="cell" data-label="{label}">–</td>')
                continue
            interval = row.metrics[metric]
            cells.append(
                f'<td role="cell" data-label="{label}"><span class="mean">{percent(interval[0])}</span> '
                f'<span class="range">{interval_text(interval)}</span>{whisker(interval, ends[metric], row.kind)}</td>'
            )
        tag = "" if row.kind == "rung" else f' <span class="tag">{row.kind}</span>'
        note = f'<span class="note">{text(row.note)}</span>' if row.note else ""
        body.append(
            f'<tr role="row" class="{row.kind}{" main" if row is main else ""}"><th scope="row" role="rowheader">'
            f"{text(row.name, MAX_TITLE)}{tag}{note}</th>{''.join(cells)}</tr>"
        )
    return (
        f'<table class="ladder" role="table"><caption>{caption}</caption><thead role="rowgroup"><tr role="row">'
        f'<th scope="col" role="columnheader"><span class="vh">Row</span></th>{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody></table>'
    )


def _ladder_section(data: ReportData) -> str:
    if not data.ladder:
        return ""
    main, _ = main_and_compared(data)
    kinds = {row.kind for row in data.ladder}
    marks = ["<b>●</b> a rung"] * bool(kinds - {"rung"})
    marks += ["<b>○</b> a ceiling (told what a perfect reader would know)"] * ("ceiling" in kinds)
    marks += ["<b>■</b> a floor (no learning)"] * ("floor" in kinds)
    caption = f"Percent, with 95 % interval. {', '.join(marks)}"
    return "<h2>Results, rung by rung</h2>" + _ladder_table(data.ladder, caption, main)


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
                f"<p>From {_metric(metric)} {percent(first.metrics[metric][0])} % ({text(first.name)}) to "
                f"{percent(best.metrics[metric][0])} % ({text(best.name)}): <b>{100 * gap:.1f} points</b> were there to be "
                "won.</p>"
            )
        else:
            sentence = f"<p>Attributes had nothing to win here: no row beats “{text(first.name)}”.</p>"
    note = f"<p>{text(data.ceiling_note)}</p>" if data.ceiling_note else ""
    return f"<h2>What there was to win</h2>{sentence}{note}" + _ladder_table(
        data.ceiling, "Percent, with 95 % interval"
    )


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
        labelled = max(of_generator.get(key, {}).get("labelled", 0) for of_generator in accuracy.values())
        body.append(f'<tr><th scope="row">{text(key)}</th><td>{labelled:,.0f}</td>{cells}</tr>')
    return (
        "<h2>How right the generated attributes are</h2><p>In percent. Precision: of the values written, the share that "
        "the label confirms; a value for what cannot be seen or read counts as wrong. Recall: of the labelled values, the share "
        "that was written. Retrieval that rises while these fall is a private code between generator and embedder.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Accuracy of attributes">'
        '<table class="plain accuracy"><thead><tr><th scope="col" rowspan="2">Key</th>'
        f'<th scope="col" rowspan="2">Labelled</th>{over}</tr><tr>{under}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _training_section(data: ReportData) -> str:
    charts = [line_chart(curve, number) for number, curve in enumerate(data.curves)]
    charts = [chart for chart in charts if chart]
    if not charts:
        return ""
    how = "Numbers: first → last. Long curves: every point pale, their running mean strong."
    return f'<h2>Training</h2><p class="quiet">{how}</p><div class="charts">{"".join(charts)}</div>'


def _picture(offer: OfferView, pictures: PictureStore) -> str:
    if not offer.image_path:
        return '<span class="picture none">no picture</span>'
    found = pictures.add(offer.image_path)
    if found is None:
        return '<span class="picture none">picture not shown</span>'
    identifier, width, height = found
    label = f"Picture of {text(offer.title or offer.id, 80)}"
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f'<use href="#{identifier}"/></svg>'
    )


def _title(offer: OfferView) -> str:
    if offer.title.strip():
        return f'<p class="title" dir="auto">{text(offer.title, MAX_TITLE)}</p>'
    return f'<p class="title untitled">no title (id {text(offer.id, MAX_VALUE)})</p>'


def _key(key: str) -> str:
    return text(key, MAX_VALUE).replace("_", "_<wbr>")


def _pair(css: str, sign: str, spoken: str, key: str, value: str, remark: str = "") -> str:
    shown = f' <span class="remark">{remark}</span>' if remark else ""
    mark = f'<span class="sign" aria-hidden="true">{sign}</span><span class="vh">{spoken}: </span>' if sign else ""
    return f'<li class="{css}">{mark}<span class="k">{_key(key)}</span> <span class="v" dir="auto">{text(value, MAX_VALUE)}</span>{shown}</li>'


def _attribute_list(pairs: Sequence[str]) -> str:
    more = f'<li class="eq">and {len(pairs) - MAX_PAIRS} more</li>' if len(pairs) > MAX_PAIRS else ""
    return f'<ul class="attributes">{"".join(pairs[:MAX_PAIRS])}{more}</ul>'


def query_attributes(offer: OfferView) -> str:
    """The attributes written for a query, each held against its label where there is one."""
    written = offer.attributes.as_dict()
    if offer.visible is None:
        pairs = [_pair("bare", "", "", key, value) for key, value in written.items()]
        return _attribute_list(pairs) if pairs else '<p class="remark">no attributes written</p>'
    labels = offer.visible.as_dict()
    pairs = []
    for key, value in written.items():
        if key not in labels:
            pairs.append(_pair("one", "?", "not to be seen or read", key, value, "not visible"))
        elif labels[key] == value:
            pairs.append(_pair("ok", "✓", "right", key, value))
        else:
            pairs.append(_pair("ne", "✗", "wrong", key, value, f"label: {text(labels[key], MAX_VALUE)}"))
    missed = [
        _pair("one", "−", "not written", key, value, "missed") for key, value in labels.items() if key not in written
    ]
    if not pairs:
        pairs = ['<li class="eq">no attributes written</li>']
    return _attribute_list(pairs + missed)


def hit_attributes(query: KeyAttributes, hit: KeyAttributes) -> str:
    """A hit's attributes beside the query's: what differs first, what agrees last and muted."""
    if not query:
        return _attribute_list([_pair("bare", "", "", key, value) for key, value in hit]) if hit else ""
    ours, theirs, found = query.as_dict(), hit.as_dict(), compare(query, hit)
    pairs = [
        _pair("ne", "≠", "differs", key, theirs[key], f"query: {text(ours[key], MAX_VALUE)}") for key in found.differ
    ]
    pairs += [_pair("one", "+", "only here", key, theirs[key]) for key in found.only_right]
    pairs += [_pair("one", "−", "only the query has", key, ours[key]) for key in found.only_left]
    if found.agree:  # on one line: what agrees is the least of interest
        agreeing = " · ".join(f"{_key(key)} {text(theirs[key], MAX_VALUE)}" for key in found.agree[:MAX_PAIRS])
        pairs = pairs[: MAX_PAIRS - 1]
        pairs.append(
            '<li class="eq"><span class="sign" aria-hidden="true">=</span><span class="vh">agrees: </span>'
            f"{agreeing}</li>"
        )
    return _attribute_list(pairs) if pairs else '<p class="remark">no attributes</p>'


def _hit(hit: HitView, rank: str, query: OfferView, pictures: PictureStore, css: str = "") -> str:
    label = '<span class="label">✓ match</span>' if hit.correct else ""
    return (
        f'<li class="hit{" match" if hit.correct else ""}{css}">{_picture(hit.offer, pictures)}<div>'
        f'<p class="rank"><b>{rank}</b> <span class="score">{hit.score:.3f}</span> {label}</p>'
        f"{_title(hit.offer)}{hit_attributes(query.attributes, hit.offer.attributes)}</div></li>"
    )


def _card(card: QueryCard, number: int, pictures: PictureStore) -> str:
    if card.correct:
        verdict = "✓ right"
    elif card.rank_of_correct is None:
        verdict = "✗ wrong, no match among the hits kept"
    else:
        verdict = f"✗ wrong, the match is at rank {card.rank_of_correct:,}"
    hits = "".join(_hit(hit, str(rank), card.query, pictures) for rank, hit in enumerate(card.hits, 1))
    if card.match is not None:
        rank = f"{card.rank_of_correct:,}" if card.rank_of_correct else "not found"
        hits += _hit(card.match, rank, card.query, pictures, " beyond")
    return (
        f'<article class="card {"right" if card.correct else "wrong"}" aria-labelledby="q{number}">'
        f'<div class="query">{_picture(card.query, pictures)}<div>'
        f'<h3 id="q{number}">Query {text(card.query.id, MAX_VALUE)}</h3><p class="verdict">{verdict}</p>{_title(card.query)}{query_attributes(card.query)}</div></div>'
        f'<ol class="hits">{hits or "<li>no hits</li>"}</ol></article>'
    )


def _query_section(sample: CardSample, pictures: PictureStore) -> str:
    if not sample.cards:
        return ""
    right = sum(card.correct for card in sample.cards)
    counts = {"all": len(sample.cards), "right": right, "wrong": len(sample.cards) - right}
    # radio buttons before the cards: the filter is plain CSS and works with scripts switched off
    radios = "".join(
        f'<input type="radio" name="show" id="show-{name}"{" checked" if name == "all" else ""}>'
        f'<label for="show-{name}"><span class="vh">Show </span>{name.capitalize()} <span>{count}</span></label>'
        for name, count in counts.items()
    )
    cards = "".join(_card(card, number, pictures) for number, card in enumerate(sample.cards))
    return (
        f"<h2>Queries and what was found</h2><p>{sample.statement}</p>{LEGEND}"
        f'<div class="filter">{radios}<div class="cards">{cards}</div></div>'
    )


def _family_section(data: ReportData, pictures: PictureStore) -> str:
    if not data.families:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(family.name, MAX_VALUE)}</th><td>{family.num_right:,} of {family.num_queries:,}'
        f"{share_bar(family.num_right / max(family.num_queries, 1))}</td>"
        f'<td><div class="strip">{"".join(_picture(offer, pictures) for offer in family.offers)}</div></td></tr>'
        for family in data.families
    )
    return (
        "<h2>Hardest families</h2><p>Siblings that were taken for one another most often.</p>"
        '<table class="plain families"><thead><tr><th scope="col">Family</th><th scope="col">Right at rank 1</th><th scope="col">Some of its siblings'
        f"</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _facts_section(data: ReportData) -> str:
    if not data.facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(label, MAX_TITLE)}</th><td>{text(value)}</td></tr>'
        for label, value in list(data.facts)[:MAX_FACTS]
    )
    return f'<h2>Facts</h2><table class="plain facts"><tbody>{rows}</tbody></table>'


def _notes_section(data: ReportData, pictures: PictureStore) -> str:
    notes = list(data.notes)
    shown = [text(note) for note in notes[:MAX_NOTES]]
    if len(notes) > MAX_NOTES:
        shown.append(f"… and {len(notes) - MAX_NOTES:,} more.")
    if pictures.num_unreadable:
        shown.append(f"Pictures that could not be opened and are not shown: {pictures.num_unreadable:,}.")
    if pictures.num_left_out:
        shown.append(f"Pictures that are not shown, to keep this page small: {pictures.num_left_out:,}.")
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
