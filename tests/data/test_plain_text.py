"""HTML in shops' texts."""

import json
import time

import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.plain_text import plain_text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("S&uuml;&szlig;e", "Süße"), ("caf&eacute;", "café"), ("&#321;&#xF3;d&#378;", "Łódź"),
        ("22&quot; Barrel", '22" Barrel'),
        ("<p>Soft.</p><p>Warm.</p>", "Soft. Warm."), ("<ul><li>one</li><li>two</li></ul>", "one two"),
        ("S<b>u</b>per", "Super"), ("line<br>two<br/>three", "line two three"),
        ('<a href="https://x?a=1>2" target="_blank">here</a>', "here"),
        ("&lt;p&gt;Soft &amp;amp; warm&lt;/p&gt;", "Soft & warm"),
        ("a<!-- hidden > -->b", "a b"), ("<style>p { color: red }</style>Red<script>if (a<b) x()</script>", "Red"),
        ("Tom &amp; Jerry", "Tom & Jerry"), ("one&nbsp;two", "one two"), ("<P CLASS='x'>Loud</P>", "Loud"),
        # what only looks like HTML
        ("5 < 10", "5 < 10"), ("A<B", "A<B"), ("a<b and c>d", "a<b and c>d"), ("AT&T", "AT&T"), ("R&D; x", "R&D; x"),
        ("?a=1&copy=2", "?a=1&copy=2"), ("<3 cats", "<3 cats"), ("I <3 U>", "I <3 U>"), ("<Model> X", "<Model> X"),
        ("two\nlines", "two\nlines"), ("a & b\xa0c", "a & b\xa0c"), ("  spaces  stay ", "  spaces  stay "), ("", ""),
    ],
)  # fmt: skip
def test_html_is_stripped_and_nothing_else(written, read):
    assert plain_text(written) == read


def test_a_catalogs_texts_are_plain(tmp_path):
    row = {"id": "1", "title": "S&uuml;&szlig;e <b>Tr&auml;ume</b>", "description": "<p>a</p>",
           "category": "Home &amp; Garden", "attributes": {"color": "r&ouml;t"}, "brand": "Caf&eacute;"}  # fmt: skip
    (tmp_path / "o.jsonl").write_text(json.dumps(row))
    (offer,) = read_catalog(tmp_path / "o.jsonl")
    assert (offer.title, offer.description, offer.category) == ("Süße Träume", "a", "Home & Garden")
    assert offer.attributes == {"color": "röt", "brand": "Café"}


@pytest.mark.parametrize(
    "text", ["<p " * 50_000, "<a href=" * 30_000, "&" * 200_000, "<!--" * 50_000, "<p" + " " * 200_000]
)
def test_hostile_text_takes_no_time(text):
    start = time.perf_counter()
    plain_text(text)
    assert time.perf_counter() - start < 5
