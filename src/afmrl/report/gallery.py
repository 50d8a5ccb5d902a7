"""The report's gallery: queries with their images, hits, and key attributes side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from afmrl.attributes.key_attributes import KeyAttributes, compare
from afmrl.report.images import ImageStore
from afmrl.report.report import CardSample, HitView, OfferView, QueryCard
from afmrl.report.text import MAX_TITLE, MAX_VALUE, text

MAX_PAIRS = 16  # attributes shown of an offer
LEGEND = (
    '<p class="key"><span class="ne">≠ differs from the query</span> <span class="one">+ only here</span> '
    '<span class="one">− the query has it, this one does not</span> <span class="eq">= agrees</span></p>'
)


def offer_image(offer: OfferView, images: ImageStore) -> str:
    """An offer's thumbnail with its alternative text, or a box that says that there is none."""
    if not offer.image_path:
        return '<span class="image none">no image</span>'
    found = images.add(offer.image_path)
    if found is None:
        return '<span class="image none">image not shown</span>'
    identifier, width, height = found
    label = f"Image of {text(offer.title or offer.id, 80)}"
    return (
        f'<svg class="image" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
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
    mark = f'<span class="sign" aria-hidden="true">{sign} </span><span class="vh">{spoken}: </span>' if sign else ""
    return (
        f'<li class="{css}">{mark}<span class="k">{_key(key)}</span> '
        f'<span class="v" dir="auto">{text(value, MAX_VALUE)}</span>{shown}</li>'
    )


def _attribute_list(pairs: Sequence[str]) -> str:
    more = f'<li class="eq">and {len(pairs) - MAX_PAIRS} more</li>' if len(pairs) > MAX_PAIRS else ""
    return f'<ul class="attributes">{"".join(pairs[:MAX_PAIRS])}{more}</ul>'


def query_attributes(offer: OfferView) -> str:
    """The attributes written for a query, each held against its label where there is one."""
    written = offer.attributes.as_dict()
    if offer.visible is None:
        return _whose(offer) + _plain(offer.attributes)
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


def _plain(attributes: KeyAttributes) -> str:
    return _attribute_list([_pair("bare", "", "", key, value) for key, value in attributes]) if attributes else ""


def _whose(offer: OfferView) -> str:
    return '<p class="remark">the seller says: </p>' if offer.sellers and offer.attributes else ""


def shown_hit(query: OfferView, hit: OfferView) -> str:
    """A hit's attributes beside the query's, and whose they are.

    What a seller wrote is not held against what a generator wrote: they have keys of their own.
    """
    if query.sellers != hit.sellers and query.attributes:
        return _whose(hit) + _plain(hit.attributes)
    return _whose(hit) + hit_attributes(query.attributes, hit.attributes)


def hit_attributes(query: KeyAttributes, hit: KeyAttributes) -> str:
    """A hit's attributes beside the query's: what differs first, what agrees last and muted."""
    if not query:
        return _plain(hit)
    if not hit:  # nothing is known of it, which is no difference
        return '<p class="remark">no attributes</p>'
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
            '<li class="eq"><span class="sign" aria-hidden="true">= </span><span class="vh">agrees: </span>'
            f"{agreeing}</li>"
        )
    return _attribute_list(pairs)


def _hit(hit: HitView, rank: str, query: OfferView, images: ImageStore, css: str = "") -> str:
    label = '<span class="label">✓ match</span>' if hit.correct else ""
    score = f'<span class="score">{hit.score:.3f}</span> ' if math.isfinite(hit.score) else ""
    return (
        f'<li class="hit{" match" if hit.correct else ""}{css}">{offer_image(hit.offer, images)}<div>'
        f'<p class="rank"><b>{text(hit.label, MAX_VALUE) or rank}</b> {score}{label}</p>'
        f"{_title(hit.offer)}{shown_hit(query, hit.offer)}</div></li>"
    )


def _card(card: QueryCard, number: int, images: ImageStore) -> str:
    if card.verdict:
        verdict = text(card.verdict, MAX_TITLE)
    elif card.correct:
        verdict = "✓ right"
    elif card.rank_of_correct is None:
        verdict = "✗ wrong, no match among the hits kept"
    else:
        verdict = f"✗ wrong, the match is at rank {card.rank_of_correct:,}"
    hits = "".join(_hit(hit, str(rank), card.query, images) for rank, hit in enumerate(card.hits, 1))
    if card.match is not None:
        rank = f"{card.rank_of_correct:,}" if card.rank_of_correct else "not found"
        hits += _hit(card.match, rank, card.query, images, " beyond")
    return (
        f'<article class="card {"right" if card.correct else "wrong"}" aria-labeledby="q{number}">'
        f'<div class="query">{offer_image(card.query, images)}<div>'
        f'<h3 id="q{number}">Query {text(card.query.id, MAX_VALUE)}</h3><p class="verdict">{verdict}</p>'
        f"{_title(card.query)}{query_attributes(card.query)}</div></div>"
        f'<ol class="hits">{hits or "<li>no hits</li>"}</ol></article>'
    )


def query_section(sample: CardSample, images: ImageStore) -> str:
    """The gallery of queries with its filter."""
    if not sample.cards:
        return ""
    right = sum(card.correct for card in sample.cards)
    counts = (
        ("all", "all", len(sample.cards)),
        ("right", sample.kinds[0], right),
        ("wrong", sample.kinds[1], len(sample.cards) - right),
    )
    # radio buttons before the cards: the filter is plain CSS and works with scripts switched off
    radios = "".join(
        f'<input type="radio" name="show" id="show-{name}"{" checked" if name == "all" else ""}>'
        f'<label for="show-{name}"><span class="vh">Show </span>{text(shown).capitalize()} <span>{count}</span></label>'
        for name, shown, count in counts
    )
    legend = LEGEND if any(card.query.attributes for card in sample.cards) else ""
    cards = "".join(_card(card, number, images) for number, card in enumerate(sample.cards))
    return (
        f"<h2>Queries and what was found</h2><p>{text(sample.statement)}</p>{legend}"
        f'<div class="filter">{radios}<div class="cards">{cards}</div></div>'
    )
