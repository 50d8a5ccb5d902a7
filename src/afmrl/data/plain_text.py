"""Shops' texts without HTML: tags left out, entities decoded."""

from __future__ import annotations

import html
import re

_BLOCK = (
    "address article aside blockquote body br caption center dd div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 head header hr html iframe img li main nav ol option p picture pre section select source table "
    "tbody td tfoot th thead title tr ul video"
)
_INLINE = (
    "a abbr acronym b big button cite code del dfn em font i input ins kbd label link mark meta q s samp small span "
    "strike strong sub sup svg time tt u var wbr o:p"
)
# A parser of HTML takes every "<letter" for a tag, and titles say "A<B". A tag is a known name, and what follows it is
# attributes with values.
_TAG = re.compile(
    rf"</?\s*(?:(?P<block>{_BLOCK.replace(' ', '|')})|(?:{_INLINE.replace(' ', '|')}))"
    r"""(?:\s+[\w:@.-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>""",
    re.IGNORECASE,
)
_UNSEEN = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"))
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[ \n]*")
ROUNDS = 3
"""HTML inside of escaped HTML: some exports escape twice."""


def plain_text(text: str) -> str:
    """The text of HTML. What only looks like it is left alone, and so is text without any.

    >>> plain_text("S&uuml;&szlig;e <b>Tr&auml;ume</b><br>&#321;&oacute;d&zacute;"), plain_text("5 < 10, A<B, AT&T")
    ('Süße Träume Łódź', '5 < 10, A<B, AT&T')
    """
    if "<" not in text and "&" not in text:
        return text
    plain = text
    for _ in range(ROUNDS):
        before = plain
        if "<" in plain:
            for start, end in _UNSEEN:
                plain = _without(plain, start, end)
            plain = _TAG.sub(lambda tag: " " if tag["block"] else "", plain)
        if "&" in plain:
            plain = _ENTITY.sub(lambda entity: html.unescape(entity[0]).replace("\xa0", " "), plain)
        if plain == before:
            break
    return text if plain == text else _LINES.sub("\n", _SPACES.sub(" ", plain)).strip()


def _without(text: str, start: str, end: str) -> str:
    """The text without what is between two marks. A search for each, not a pattern: many starts take no longer."""
    lowered = text.lower()
    if start not in lowered or len(lowered) != len(text):
        return text
    kept, place = [], 0
    while (begin := lowered.find(start, place)) >= 0 and (stop := lowered.find(end, begin)) >= 0:
        kept.append(text[place:begin])
        place = stop + len(end)
    return " ".join([*kept, text[place:]])
