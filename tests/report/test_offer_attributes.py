"""Key attributes side by side: what agrees, what differs, whose they are."""

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.report.offer_attributes import AttributeList, hit_attributes, query_attributes
from afmrl.report.views import OfferView


def generated(**attributes: str) -> OfferView:
    return OfferView("1", attributes=KeyAttributes.of(attributes))


def in_words(attributes: AttributeList) -> list[str]:
    """What a reader hears, line by line."""
    lines = [
        f"{line.sign} {line.spoken}: {line.key} {line.value} {line.remark}".strip(" :") for line in attributes.lines
    ]
    return lines + [f"= {key} {value}" for key, value in attributes.agreeing]


def test_attributes_agreeing_differing_and_missing() -> None:
    query = generated(color="red", size="m", brand="x")
    shown = hit_attributes(query, generated(color="blue", size="m", cut="slim"))
    assert in_words(shown) == [
        "≠ differs: color blue query: red",
        "+ only here: cut slim",
        "− only the query has: brand x",
        "= size m",
    ]
    assert [line.css for line in shown.lines] == ["ne", "one", "one"]
    assert in_words(hit_attributes(generated(), query)) == ["color red", "size m", "brand x"]


def test_a_hit_of_which_nothing_is_known_does_not_differ() -> None:
    assert hit_attributes(generated(color="red"), generated()) == AttributeList(absent="none known")
    assert hit_attributes(generated(), generated()) == AttributeList([])
    assert in_words(query_attributes(OfferView("q"))) == []


def test_the_sellers_attributes_are_shown_where_none_are_given() -> None:
    offer = Offer("1", title="t", attributes={"Color": "Red"})
    assert OfferView.of(offer).attributes.as_dict() == {"color": "red"}
    assert not OfferView.of(offer, KeyAttributes()).attributes  # a generator that wrote nothing
    assert not OfferView.of(offer, None, KeyAttributes.of({"color": "red"})).attributes  # targets judge what is written


def test_what_a_seller_wrote_is_not_compared_with_what_was_generated() -> None:
    offer = Offer("1", title="t", attributes={"Color": "Red"})
    sellers, written = OfferView.of(offer), OfferView.of(offer, KeyAttributes.of({"color": "blue"}))
    beside = hit_attributes(written, sellers)
    assert beside.sellers and in_words(beside) == ["color red"]
    alike = hit_attributes(sellers, sellers)
    assert alike.sellers and in_words(alike) == ["= color red"]
    other = hit_attributes(OfferView.of(offer, KeyAttributes.of({"color": "red"})), written)
    assert in_words(other) == ["≠ differs: color blue query: red"] and not other.sellers
    assert query_attributes(sellers).sellers and in_words(query_attributes(sellers)) == ["color red"]
    assert not query_attributes(written).sellers and in_words(query_attributes(written)) == ["color blue"]
    assert in_words(hit_attributes(OfferView.of(Offer("2", "t")), written)) == ["color blue"]


def test_query_attributes_are_compared_with_their_targets() -> None:
    written = KeyAttributes.of({"color": "red", "size": "m", "cut": "slim"})
    targets = KeyAttributes.of({"color": "blue", "size": "m", "brand": "x"})
    assert in_words(query_attributes(OfferView("q", attributes=written, targets=targets))) == [
        "✗ wrong: color red target: blue",
        "✓ right: size m",
        "? not to be seen or read: cut slim not visible",
        "− not written: brand x missed",
    ]
    nothing = query_attributes(OfferView("q", targets=targets))
    assert nothing.absent == "none written" and len(nothing.lines) == 3
    assert in_words(query_attributes(OfferView("q", attributes=written))) == ["color red", "size m", "cut slim"]


def test_long_lists_are_cut_and_say_so() -> None:
    many = generated(**{f"key {number}": "x" for number in range(20)})
    assert len(query_attributes(many).lines) == 16 and query_attributes(many).num_more == 4
    same = hit_attributes(many, many)
    assert len(same.agreeing) == 16 and same.num_more == 4
