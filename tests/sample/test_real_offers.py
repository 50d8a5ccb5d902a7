"""The offers of real products that the quickstart searches."""

from collections import Counter

import pytest

from afmrl.cli.quickstart import search_real_offers
from afmrl.data.catalog import read_catalog
from afmrl.sample.real_offers import CODE_QUESTION, MEANING_QUESTION, write_real_offers


def test_each_product_has_two_offers(tmp_path):
    catalog = read_catalog(write_real_offers(tmp_path))
    assert len(catalog.offers) == 100 and not catalog.skipped
    assert set(Counter(offer.product_id for offer in catalog.offers).values()) == {2}
    assert len({offer.title for offer in catalog.offers}) == 100


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # a title then stands on one line


def first_titles(text):
    """The title of each table's first hit."""
    lines = text.splitlines()
    return [lines[at + 1].split("│")[3].strip() for at, line in enumerate(lines) if line.startswith("┡")]


def test_real_weights_answer_what_no_offer_says_in_these_words(tmp_path, capsys):
    search_real_offers(tmp_path)
    text = capsys.readouterr().out
    code, meaning = first_titles(text)
    assert "silver" in code.lower() and "XM4" in code
    assert "LEGO" in meaning.upper() and not set(meaning.lower().split()) & set(MEANING_QUESTION.split())
    assert f'--model small --text "{MEANING_QUESTION}" --k 3' in text


def test_a_search_that_fails_is_said_and_ends_nothing(tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("afmrl.cli.search.search", fails)
    search_real_offers(tmp_path)
    assert "afmrl: [Errno 28] No space left on device" in capsys.readouterr().err


def test_without_the_weights_it_searches_by_words_and_says_what_brings_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("afmrl.embedder.small.build.small_is_installed", lambda: False)
    search_real_offers(tmp_path)
    text = capsys.readouterr().out
    (code,) = first_titles(text)
    assert "silver" in code.lower() and "XM4" in code
    assert f'--model bm25 --text "{CODE_QUESTION}"' in text and 'pip install "afmrl[small]"' in text
