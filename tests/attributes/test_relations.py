import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmrl.attributes.key_attributes import KeyAttributes, compare
from afmrl.attributes.relations import NO_ATTRIBUTES, AttributeAgreement, AttributeBM25, ProductLabels
from afmrl.attributes.words import tokenize
from afmrl.errors import InputError
from reference_agcl import bm25, words

OFFERS = [
    {"color": "deep red", "neck": "v neck", "material": "silk"},
    {"color": "deep red", "neck": "v neck", "material": "silk", "cut": "straight"},
    {"color": "blue", "material": "silk silk silk"},
    {},
    {"color": "red", "series": "red wine red"},
]
TABLE = [KeyAttributes.of(offer) for offer in OFFERS]
ROWS = list(range(len(OFFERS)))

offers = st.dictionaries(
    st.sampled_from(["color", "size", "brand", "cut"]), st.sampled_from(["red", "deep red", "m", "l m", "acme"])
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Deep-Red  V_neck", ["deep", "red", "v", "neck"]),
        ("1.5L, 12.0.3 a.b", ["1.5l", "12.0.3", "a", "b"]),
        ("红", ["红"]),
        ("深红色 dress", ["深", "红", "色", "深红", "红色", "dress"]),
        ("iPhone15手机", ["iphone15", "手", "机", "手机"]),
        ("カベ・ルネ", ["カ", "ベ", "カベ", "ル", "ネ", "ルネ"]),
        ("빨간 드레스", ["빨간", "드레스"]),
        ("ＲＥＤ robe été", ["red", "robe", "été"]),
        ("", []),
        ("-- / !", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 0.0)])
def test_scores_equal_the_formula(k1, b):
    found = AttributeBM25(TABLE, k1=k1, b=b).scores(ROWS, ROWS)
    corpus = [words(offer) for offer in OFFERS]
    wanted = [[bm25(query, document, corpus, k1, b) for document in corpus] for query in corpus]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.dtype == np.float32
    assert found[0, 1] > found[0, 4] > found[0, 3] == 0
    assert not np.allclose(found, found.T)  # query and candidate are not interchangeable


def test_scores_equal_bm25s():
    corpus = [words(offer) for offer in OFFERS]
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(corpus, show_progress=False)
    found = AttributeBM25(TABLE).scores(ROWS, ROWS)
    for row, tokens in enumerate(corpus):
        if tokens:
            np.testing.assert_allclose(found[row], index.get_scores(tokens), rtol=1e-6)
        else:
            assert not found[row].any()


@settings(max_examples=40, deadline=None)
@given(st.lists(offers, min_size=1, max_size=8), st.data())
def test_scores_of_any_rows_equal_the_formula(table, data):
    rows = st.lists(st.integers(NO_ATTRIBUTES, len(table) - 1), min_size=1, max_size=6)
    queries, candidates = data.draw(rows), data.draw(rows)
    corpus = [words(offer) for offer in table]
    if not any(corpus):
        assert AttributeBM25([KeyAttributes.of(o) for o in table]).scores(queries, candidates).sum() == 0
        return
    found = AttributeBM25([KeyAttributes.of(offer) for offer in table]).scores(queries, candidates)
    padded = [*corpus, []]  # row −1
    wanted = [[bm25(padded[i], padded[j], corpus) for j in candidates] for i in queries]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_pairs_match_whole_pairs_only():
    table = [KeyAttributes.of(o) for o in ({"color": "deep red"}, {"color": "red"}, {"color": "deep red"}, {"a": "x"})]
    found = AttributeBM25(table, fields="pairs").scores([0], [0, 1, 2, 3])[0]
    assert found[0] == found[2] > 0
    assert found[1] == 0
    assert AttributeBM25(table).scores([0], [1])[0, 0] > 0


def test_a_key_alone_scores_nothing():
    table = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "blue"})]
    assert AttributeBM25(table, fields="values").scores([0], [1])[0, 0] == 0


def test_chinese_values_share_what_they_have_in_common():
    colors = ("深红色", "红色", "红", "蓝色", "red")
    row = AttributeBM25([KeyAttributes.of({"颜色": color}) for color in colors]).scores([0], range(5))[0]
    assert row[0] > row[1] > row[3] > row[4] == 0
    assert row[2] > 0


def test_a_very_long_attribute_counts_against_its_document():
    long = KeyAttributes.of({"color": "red", "notes": " ".join(f"w{i}" for i in range(5_000))})
    table = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "red"}), long]
    row = AttributeBM25(table).scores([0], [1, 2])[0]
    assert row[0] > row[1] > 0
    assert np.isfinite(AttributeBM25(table).maximum)


def test_nothing_known_at_all():
    lexical = AttributeBM25([KeyAttributes(), KeyAttributes()])
    assert lexical.scores([0, 1], [0, 1, NO_ATTRIBUTES]).tolist() == [[0.0] * 3] * 2
    assert lexical.maximum == 0
    assert AttributeBM25([]).scores([NO_ATTRIBUTES], [NO_ATTRIBUTES]).tolist() == [[0.0]]


def test_maximum_is_the_highest_score_of_an_offer_with_itself():
    lexical = AttributeBM25(TABLE)
    assert lexical.maximum == pytest.approx(lexical.scores(ROWS, ROWS).diagonal().max())


def test_more_rows_than_one_product_takes():
    rows = np.random.default_rng(0).integers(-1, len(TABLE), 700)
    lexical = AttributeBM25(TABLE)
    small = lexical.scores([*ROWS, NO_ATTRIBUTES], [*ROWS, NO_ATTRIBUTES])
    np.testing.assert_array_equal(lexical.scores(rows, rows), small[np.ix_(rows, rows)])


def test_wrong_rows_and_options_are_named():
    with pytest.raises(InputError, match="row number 5 .* has 5 rows"):
        AttributeBM25(TABLE).scores([0], [5])
    with pytest.raises(InputError, match="row number -2"):
        AttributeBM25(TABLE).scores([-2], [0])
    with pytest.raises(InputError, match="fields='keys' is unknown; one of values, pairs"):
        AttributeBM25(TABLE, fields="keys")
    with pytest.raises(InputError, match="k1=-1"):
        AttributeBM25(TABLE, k1=-1)


@settings(max_examples=60, deadline=None)
@given(st.lists(offers, min_size=1, max_size=8), st.integers(1, 3))
def test_agreement_is_what_compare_says(table, min_shared):
    attributes = [KeyAttributes.of(offer) for offer in table]
    rows = [*range(len(table)), NO_ATTRIBUTES]
    found = AttributeAgreement(attributes).against(rows, min_shared=min_shared)(rows)
    padded = [*attributes, KeyAttributes()]
    for i, left in enumerate(padded):
        for j, right in enumerate(padded):
            sides = compare(left, right)
            assert found[i, j] == (len(sides.agree) >= min_shared and not sides.differ)


def test_labels_unknown_are_no_product():
    same = ProductLabels(["p", "", "q", "p"]).against([0, 1, 3, NO_ATTRIBUTES])
    assert same([0, 1, 2, NO_ATTRIBUTES]).tolist() == [[True, False, True, False]] + [[False] * 4] * 3
