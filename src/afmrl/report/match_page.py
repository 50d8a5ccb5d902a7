"""report.html of a match: pairs and groups to review by eye, the doubtful ones first."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

from afmrl.data.offer import Offer
from afmrl.matching.output import whole_file
from afmrl.matching.result import MatchedGroup, MatchedPair, MatchResult, Review
from afmrl.report.gallery import offer_image
from afmrl.report.images import ImageStore
from afmrl.report.report import OfferView
from afmrl.report.sections import FOOTER
from afmrl.report.text import MAX_TITLE, MAX_VALUE, text

MAX_MEMBERS = 12  # of a group that are shown
MAX_REASONS = 8  # of a kind
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_match_page(result: MatchResult, out: Path) -> Path:
    """Write OUT/report.html; it holds all that it shows and loads nothing."""
    review, summary, groups = result.review, result.summary, result.review.groups
    images = ImageStore()
    shown = any(offer.image for group in groups for offer in group.offers) or any(
        pair.left.image or pair.right.image for pair in (*review.vetoed, *review.near)
    )
    sections = [
        ("vetoed", "Kept apart by a veto", _vetoed_section(review, images, shown)),
        ("near", "Near the threshold", _near_section(review, images, shown)),
        ("groups", "Groups", _groups_section(groups, summary, images, shown)),
        ("reliability", "Reliability", _reliability_section(summary)),
        ("vetoes", "Vetoes", _vetoes_section(summary)),
        ("facts", "Facts", _facts_section(summary)),
        ("notes", "Read with care", _notes_section(summary, images)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{name}">{link}</a></li>' for name, link, _ in sections)
    body = "".join(f'<section id="{name}">{html}</section>' for name, _, html in sections)
    style = (resources.files("afmrl.report") / "report.css").read_text(encoding="utf-8")
    own = (resources.files("afmrl.report") / "match_page.css").read_text(encoding="utf-8")
    title = f"Same products in {PurePath(str(summary['catalog'] or '')).name or 'the catalog'}"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark"><title>{text(title, MAX_TITLE)}</title>\n'
        f'<link rel="icon" href="data:,"><style>{style}{own}</style></head>\n<body>\n'
        f'<a class="skip" href="#main">Skip to the pairs</a>{images.definitions()}\n'
        f'<header><h1>{text(title, MAX_TITLE)}</h1><p class="subtitle">{_threshold(summary)}</p>'
        f'<p class="headline">{_headline(summary)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">{body}</main>\n'
        f"<footer><p>{FOOTER}</p></footer>\n"
        "</body></html>\n"
    )
    path = out / "report.html"
    with whole_file(path) as file:
        file.write(page)
    return path


def _headline(summary: dict[str, Any]) -> str:
    groups, offers = summary["groups"], summary["offers"]
    found = "1 group" if groups == 1 else f"{groups:,} groups"
    return (
        f"<strong>{found}</strong> of the same product among {offers:,} offers; "
        f"{summary['offers_in_groups']:,} offers stand in one, the largest holds {summary['largest_group']:,}."
    )


def _threshold(summary: dict[str, Any]) -> str:
    threshold = summary["threshold"]
    return f"Same product from probability {threshold['probability']:.2f}. {text(threshold['from']).capitalize()}."


def _vetoed_section(review: Review, images: ImageStore, shown: bool) -> str:
    if not review.vetoed:
        return ""
    return (
        "<h2>Kept apart by a veto</h2><p>Alike enough to be one product, but for an identifying attribute. "
        f"{_of(len(review.vetoed), review.num_vetoed, 'pairs, the most alike first')}</p>"
        + _pairs(review.vetoed, images, shown)
    )


def _near_section(review: Review, images: ImageStore, shown: bool) -> str:
    if not review.near:
        return ""
    return (
        "<h2>Near the threshold</h2><p>A little more or less alike, and the answer were another one. "
        f"{_of(len(review.near), review.num_near, 'pairs, the nearest first')}</p>" + _pairs(review.near, images, shown)
    )


def _of(count: int, total: int, what: str) -> str:
    return f"All {total:,} {what}." if count == total else f"{count:,} of {total:,} {what}."


def _pairs(pairs: Sequence[MatchedPair], images: ImageStore, shown: bool) -> str:
    return f'<div class="pairs">{"".join(_pair(pair, images, shown) for pair in pairs)}</div>'


def _pair(pair: MatchedPair, images: ImageStore, shown: bool) -> str:
    reasons = pair.reasons.as_dict()
    veto = ", ".join(pair.veto)
    if veto:
        verdict, css = f"✗ kept apart: {text(veto, MAX_TITLE)}", "veto"
    elif pair.same:
        verdict, css = "✓ same product", "same"
    else:
        verdict, css = "✗ not the same", "apart"
    weights = " · ".join(f"{name} {reasons[name]:+.1f}" for name in ("text", "image", "embedding") if name in reasons)
    return (
        f'<article class="pair {css}"><p class="verdict"><b>{verdict}</b>'
        f'<span class="odds">probability {pair.probability:.2f} · score {pair.score:+.1f} ({weights})</span></p>'
        f'<div class="both">{_offer(pair.left, images, shown)}{_offer(pair.right, images, shown)}</div>'
        f"{_reasons(reasons)}</article>"
    )


def _offer(offer: Offer, images: ImageStore, shown: bool) -> str:
    view = OfferView.of(offer)
    image = offer_image(view, images) if shown else ""
    title = text(offer.title, MAX_TITLE) if offer.title.strip() else '<span class="untitled">no title</span>'
    return (
        f'<div class="offer{" imaged" if shown else ""}">{image}<div><p class="title" dir="auto">{title}</p>'
        f'<p class="id">{text(offer.id, MAX_VALUE)}</p></div></div>'
    )


def _reasons(reasons: dict[str, Any]) -> str:
    rows = []
    for key, of in list(reasons["differ"].items())[:MAX_REASONS]:
        css = "ne strong" if key in reasons["veto"] else "ne"
        rows.append(_row(css, "≠", "differs", key, f"{of['left']} | {of['right']}", of["from"]))
    for key, of in list(reasons["agree"].items())[:MAX_REASONS]:
        value = of["left"] if of["left"] == of["right"] else f"{of['left']} | {of['right']}"
        rows.append(_row("eq", "=", "agrees", key, value, of["from"]))
    for side, name in (("only_left", "left only"), ("only_right", "right only")):
        for key, of in list(reasons[side].items())[:MAX_REASONS]:
            rows.append(_row("one", "+", name, key, of["value"], [of["from"]], name))
    return f'<ul class="attributes reasons">{"".join(rows)}</ul>' if rows else ""


def _row(css: str, sign: str, spoken: str, key: str, value: str, sources: Sequence[str], remark: str = "") -> str:
    told = " and ".join(dict.fromkeys(sources))
    shown = ", ".join(part for part in (remark, "" if told == "extracted" else told) if part)
    return (
        f'<li class="{css}"><span class="sign" aria-hidden="true">{sign} </span><span class="vh">{spoken}: </span>'
        f'<span class="k">{text(key, MAX_VALUE)}</span> <span class="v" dir="auto">{text(value, 2 * MAX_VALUE)}</span>'
        + (f' <span class="remark">({text(shown, MAX_VALUE)})</span>' if shown else "")
        + "</li>"
    )


def _groups_section(groups: Sequence[MatchedGroup], summary: dict[str, Any], images: ImageStore, shown: bool) -> str:
    if not groups:
        return "<h2>Groups</h2><p>No two offers are called the same product.</p>"
    cards = []
    for group in groups:
        probability, members = group.probability, group.offers
        offers = "".join(_offer(offer, images, shown) for offer in members[:MAX_MEMBERS])
        more = f'<p class="quiet">and {len(members) - MAX_MEMBERS:,} more</p>' if len(members) > MAX_MEMBERS else ""
        cards.append(
            f'<article class="group"><p class="verdict"><b>{len(members):,} offers</b><span class="odds">least likely '
            f'pair: {probability:.2f}</span></p><div class="members">{offers}</div>{more}</article>'
        )
    about = _of(len(groups), summary["groups"], "groups, the least sure first")
    return f'<h2>Groups</h2><p>{about}</p><div class="groups">{"".join(cards)}</div>'


def _reliability_section(summary: dict[str, Any]) -> str:
    labels = summary["labels"]
    if labels is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{row["from"]:.2f} – {row["to"]:.2f}</th><td>{row["pairs"]:,}</td>'
        f"<td>{row['mean_probability']:.2f}</td><td>{row['share_same']['mean']:.2f} "
        f'<span class="range">[{row["share_same"]["low"]:.2f}, {row["share_same"]["high"]:.2f}]</span></td></tr>'
        for row in labels["reliability"]
    )
    precision, recall = labels["precision"], labels["recall"]
    return (
        f"<h2>Reliability</h2><p>On {text(labels['measured_on'])}: precision {_interval(precision)}, recall "
        f"{_interval(recall)}. How often pairs of about one probability are the same product:</p>"
        '<div class="scroll"><table class="plain"><thead><tr><th scope="col">Probability</th><th scope="col">Pairs</th>'
        '<th scope="col">Mean</th><th scope="col">Share that is the same</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _interval(of: dict[str, float]) -> str:
    return f"{of['mean']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


def _vetoes_section(summary: dict[str, Any]) -> str:
    if not summary["vetoes"]:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(key, MAX_VALUE)}</th><td>{count:,}</td></tr>'
        for key, count in summary["vetoes"].items()
    )
    return (
        "<h2>Vetoes</h2><p>Among the pairs listed; a pair may have several. <code>--no-veto KEY</code> takes one away, "
        '<code>--veto KEY</code> adds one.</p><table class="plain facts"><thead><tr><th scope="col">Attribute</th>'
        f'<th scope="col">Pairs</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _facts_section(summary: dict[str, Any]) -> str:
    facts = [
        (label, summary.get(key))
        for label, key in (
            ("catalog", "catalog"), ("against", "against"), ("model", "model"), ("generator", "generator"),
            ("labels", "labels_file"), ("offers", "offers"), ("pairs compared", "pairs_compared"),
            ("pairs listed", "pairs_listed"), ("pairs in one group", "pairs_same"), ("pairs vetoed", "pairs_vetoed"),
        )
    ]  # fmt: skip
    rows = "".join(
        f'<tr><th scope="row">{label}</th><td>{f"{value:,}" if isinstance(value, int) else text(value)}</td></tr>'
        for label, value in facts
        if value is not None
    )
    return f'<h2>Facts</h2><table class="plain facts"><tbody>{rows}</tbody></table>'


def _notes_section(summary: dict[str, Any], images: ImageStore) -> str:
    notes = list(summary["notes"])
    if summary["labels"] is None:
        notes.insert(
            0,
            "Threshold and probabilities are defaults learned on public sets. Nobody knows the precision for this "
            "catalog: label some of the pairs above and give them with --labels.",
        )
    if images.num_left_out:
        notes.append(f"Images that are not shown, to keep this page small: {images.num_left_out:,}.")
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f"<h2>Read with care</h2><ul>{items}</ul>" if notes else ""
