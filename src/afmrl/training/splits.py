"""A run's offers: positives, targets, and who trains, rewards, validates and tests."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import is_trait, traits
from afmrl.attributes.missing import says_nothing
from afmrl.data.gtin import gtins_in, is_destroyed_gtin, is_gtin_key, normalize_gtin
from afmrl.data.offer import Offer
from afmrl.data.pairs import read_pair_rows
from afmrl.data.roles import role_of
from afmrl.data.splits import split_of
from afmrl.errors import InputError
from afmrl.files import parse_json
from afmrl.terminal import counted
from afmrl.training.recipe import SPLITS, CatalogSection, SplitName, TargetsSection

DEALING_SEED = 0
"""Offers are dealt out the same whatever a run's seed, so that seeds are compared on the same test offers."""


@dataclass(frozen=True)
class Split:
    """Offers of one split, with their targets; queries and gallery are row numbers into them."""

    offers: list[Offer]
    targets: list[KeyAttributes]
    queries: list[int]
    gallery: list[int]
    relevant: list[np.ndarray]
    """For each query, the gallery positions (not row numbers) of the same product."""
    families: list[str]
    """For each query, its family (its product where no family is known): the unit of the bootstrap."""

    def query_offers(self) -> list[Offer]:
        return [self.offers[row] for row in self.queries]

    def gallery_offers(self) -> list[Offer]:
        return [self.offers[row] for row in self.gallery]


def split_offers(
    offers: Sequence[Offer],
    section: CatalogSection,
    *,
    skipped_ids: Collection[str] = (),
    targets_optional: bool = False,
    needs_reward: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Split]:
    """Deal the offers out. No product is in two splits, unless `split.shared` names a gallery of all.

    A catalog whose column names no split but "train" is dealt out by family or product. One that names splits but no
    "reward" gives up some training products for it where RAR needs one.

    Args:
        skipped_ids: ids of catalog rows that were skipped as unreadable: pairs that name them are skipped.
        targets_optional: the catalog need not have key attributes; a teacher writes them, or rules read them.
        needs_reward: RAR is trained, and its split must not be empty.
        say: told in one line what was dealt out unasked.

    Raises:
        InputError: a split is empty, a product is in two splits, no positives are known, or there are no targets.
    """
    offers = with_positives(offers, section, skipped_ids=skipped_ids, say=say)
    targets = read_targets(offers, section.targets, optional=targets_optional)
    names = _split_names(offers, section, needs_reward, say)
    _refuse_leaks(offers, names, section)
    splits: dict[str, Split] = {}
    for split in SPLITS:
        rows = [row for row, name in enumerate(names) if name == split]
        if rows and section.split.shared:
            rows += [row for row, name in enumerate(names) if name == section.split.shared]
        splits[split] = _make_split([offers[row] for row in rows], [targets[row] for row in rows], section)
    if not splits["train"].offers:
        raise InputError(
            f"catalog: no offer belongs to the split 'train' (column {section.split.column!r}); name the column in "
            "catalog.split.column, or deal products out with catalog.split.by"
        )
    return splits


def with_positives(
    offers: Sequence[Offer],
    section: CatalogSection,
    *,
    skipped_ids: Collection[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Offer]:
    """The offers with `product_id` set from what the recipe names: a column, or a file of pairs.

    Where no two offers share a `product_id`, equal valid GTINs are the positives.

    Raises:
        InputError: nothing says which offers are the same product.
    """
    positives = section.positives
    if positives.pairs:
        return _from_pairs(offers, positives.pairs, set(skipped_ids))
    column = positives.column or "product_id"
    stated = [_value(offer, column) for offer in offers]
    destroyed = [value for value in stated if is_destroyed_gtin(value)]
    products = ["" if is_destroyed_gtin(value) else _product(value, column) for value in stated]
    offers = [
        offer if offer.product_id == product else dataclasses.replace(offer, product_id=product)
        for offer, product in zip(offers, products, strict=True)
    ]
    if _num_shared(offers):
        return list(offers)
    by_gtin = [dataclasses.replace(offer, product_id=_gtin(offer)) for offer in offers]
    if column == "product_id" and (shared := _num_shared(by_gtin)):
        say(f"no two offers share a product_id: equal GTINs say which are the same product ({shared:,} products)")
        return by_gtin
    raise InputError(
        f"catalog: no two offers share a value of '{column}', so nothing says which offers are the same product. "
        "Name the positives in the recipe: catalog.positives.column (a GTIN, an MPN, a style of which there are "
        "two views) or catalog.positives.pairs (a file of left, right, label)" + _rounded(destroyed)
    )


def _num_shared(offers: Sequence[Offer]) -> int:
    """How many products have two offers or more."""
    return sum(count > 1 for count in Counter(offer.product_id for offer in offers if offer.product_id).values())


def _gtin(offer: Offer) -> str:
    """The first valid GTIN among an offer's attributes and columns; "" where it has none."""
    stated = (*offer.attributes.items(), *offer.extra.items())
    return next((gtin for key, value in stated if is_gtin_key(key) for gtin in gtins_in(value)), "")


def _value(offer: Offer, column: str) -> Any:
    """What the offer has in a column, or as a seller attribute of that name."""
    value = offer.extra.get(column) if column in offer.extra else offer.column(column)
    return offer.attributes.get(column) if says_nothing(value) else value


def _product(value: Any, column: str) -> str:
    """Which product a column's value names; "": none. A GTIN is one however it is spelled."""
    of_gtin = is_gtin_key(column)
    if says_nothing(value, identifier=of_gtin or column.lower() == "mpn"):
        return ""
    return (normalize_gtin(value) if of_gtin else None) or str(value).strip()


def _rounded(destroyed: Sequence[Any]) -> str:
    if not destroyed:
        return ""
    return (
        f". {len(destroyed):,} values were rounded by a spreadsheet and are not used (the first: {destroyed[0]}); "
        "export the column as text"
    )


def _from_pairs(offers: Sequence[Offer], path: str, skipped: set[str]) -> list[Offer]:
    from scipy.cluster.hierarchy import DisjointSet

    known = {offer.id for offer in offers}
    same: Any = DisjointSet([])
    for number, left, right, is_same, _ in read_pair_rows(path, name="positives", unlabeled=True):
        if {left, right} & skipped:
            continue
        if missing := {left, right} - known:
            raise InputError(f"positives {path}:{number}: unknown offer id {sorted(missing)[0]!r}")
        if is_same:
            same.add(left)
            same.add(right)
            same.merge(left, right)
    if not len(same):
        raise InputError(f"positives {path}: names no two offers of the same product")
    return [dataclasses.replace(o, product_id=str(same[o.id]) if o.id in same else o.id) for o in offers]


def read_targets(offers: Sequence[Offer], section: TargetsSection, *, optional: bool = False) -> list[KeyAttributes]:
    """Key attributes of each offer from the column of targets, restricted to `keys`, `shared` ones taken over.

    Prices, stock, ids and GTINs are never among them: no image shows them, and a generator would learn to invent them.

    Args:
        optional: not one offer needs to have any; a teacher writes them.
    """
    found: list[dict[str, str]] = []
    for offer in offers:
        value: Any = offer.attributes if section.column == "attributes" else offer.extra.get(section.column)
        if says_nothing(value):
            value = {}
        if isinstance(value, str):
            try:
                value = parse_json(value) if value.lstrip().startswith("{") else KeyAttributes.parse(value).as_dict()
            except ValueError as error:
                raise InputError(
                    f"catalog: offer {offer.id!r}: the column {section.column!r} holds no key attributes ({error}); "
                    "expected an object of key: value, or text such as 'color: red; size: m'"
                ) from error
        if not isinstance(value, Mapping):
            raise InputError(
                f"catalog: offer {offer.id!r}: the column {section.column!r} is {type(value).__name__}, expected an "
                "object of key: value"
            )
        found.append(traits(KeyAttributes.of(value)).as_dict())
    for key in section.shared:
        of_product = {o.product_id: v[key] for o, v in zip(offers, found, strict=True) if o.product_id and key in v}
        for offer, values in zip(offers, found, strict=True):
            if key not in values and offer.product_id in of_product:
                values[key] = of_product[offer.product_id]
    if not any(found) and not optional:
        raise InputError(
            f"catalog: no offer has key attributes in the column {section.column!r} (prices, stock, ids and GTINs are "
            "none); name it in catalog.targets.column"
        )
    if section.keys is None:
        return [KeyAttributes.of(values) for values in found]
    if refused := [key for key in section.keys if not is_trait(key)]:
        raise InputError(
            f"catalog.targets.keys: {refused[0]!r} cannot be learned: a price, a stock, an id or a GTIN cannot be read "
            "off an offer, and a generator would invent it; leave it out"
        )
    known = dict.fromkeys(key for values in found for key in values)
    if any(found) and (unknown := [key for key in section.keys if key not in known]):
        raise InputError(
            f"catalog.targets.keys: no offer has {unknown[0]!r} in the column {section.column!r}; "
            f"its keys: {', '.join(list(known)[:20])}"
        )
    return [KeyAttributes.of([(k, values[k]) for k in section.keys if k in values]) for values in found]


def _split_names(
    offers: Sequence[Offer], section: CatalogSection, needs_reward: bool, say: Callable[[str], None]
) -> list[str]:
    split = section.split
    if split.by is not None:
        if not any(offer.column(split.by) for offer in offers):
            raise InputError(f"catalog.split.by: no offer has a value in the column {split.by!r}")
        return _dealt(offers, split.by, split.fractions)
    names = [split_of(offer, split.column or "split") for offer in offers]
    stated = {name for name in names if name in SPLITS}
    family = section.family_column or ""
    families = {offer.column(family) for offer in offers} - {""} if family else set()
    by = family if families else "product_id"
    if set(names) <= {"", "train"} and not split.shared:  # other words for the splits are told below
        shares = {name: share for name, share in split.fractions.items() if name != "reward" or needs_reward}
        whole = sum(shares.values())
        shown = ", ".join(f"{name} {share / whole:.0%}" for name, share in shares.items() if share)
        says = "names no split but 'train'" if stated else "names no splits"
        if families and len(families) * min(share for share in shares.values() if share) < whole:
            says += f", and {counted(len(families), 'value')} of {family!r} are too few to deal out"
            by = "product_id"
        say(f"the column {split.column!r} {says}: offers are dealt out by {by}: {shown}")
        return _dealt(offers, by, shares)
    train = [row for row, name in enumerate(names) if name == "train"]
    share = split.fractions.get("reward", 0.0)
    if needs_reward and "reward" not in stated and train and share and not split.shared:
        dealt = _dealt(
            [offers[row] for row in train], by, {"train": split.fractions.get("train", 0.0), "reward": share}
        )
        for row, name in zip(train, dealt, strict=True):
            names[row] = name
        say(
            f"the column {split.column!r} names no split 'reward', which RAR needs: {dealt.count('reward'):,} of the "
            f"{len(train):,} training offers are dealt to it by {by}"
        )
    if left_out := sum(name not in (*SPLITS, split.shared) for name in names):
        say(
            f"{left_out:,} offers name none of the splits {', '.join(SPLITS)} in the column {split.column!r} and are "
            "left out"
        )
    return names


def _dealt(offers: Sequence[Offer], by: str, fractions: Mapping[SplitName, float]) -> list[str]:
    """A split for each offer: equal values of a column are dealt out whole, those without one by product."""
    dealt = [offer.column(by) or offer.product_id or offer.id for offer in offers]
    values = sorted(set(dealt))
    order = np.random.default_rng(DEALING_SEED).permutation(len(values))
    bounds = np.cumsum([fractions.get(split, 0.0) for split in SPLITS])
    place = (np.arange(len(values)) + 0.5) / len(values) * bounds[-1]
    names = {values[int(v)]: SPLITS[int(np.searchsorted(bounds, p))] for v, p in zip(order, place, strict=True)}
    return [names[value] for value in dealt]


def _refuse_leaks(offers: Sequence[Offer], names: Sequence[str], section: CatalogSection) -> None:
    if section.split.shared:
        if section.split.shared not in names:
            raise InputError(
                f"catalog.split.shared: no offer says {section.split.shared!r} in the column {section.split.column!r}"
            )
        return
    seen: dict[str, str] = {}
    for offer, name in zip(offers, names, strict=True):
        if name and offer.product_id and seen.setdefault(offer.product_id, name) != name:
            raise InputError(
                f"catalog: product {offer.product_id!r} is in the splits {seen[offer.product_id]!r} and "
                f"{name!r}; split by product or family (catalog.split.by)"
            )


def _make_split(offers: list[Offer], targets: list[KeyAttributes], section: CatalogSection) -> Split:
    queries: list[int] = []
    gallery: list[int] = []
    of_product: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        of_product[offer.product_id or offer.id].append(row)
    for rows in of_product.values():
        for place, row in enumerate(rows):
            role = role_of(offers[row], section.role_column)
            if role is None or role == "both":
                role = "query" if place == 0 and len(rows) > 1 else "gallery"
            (queries if role == "query" else gallery).append(row)
    position: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(gallery):
        position[offers[row].product_id].append(place)
    queries = [row for row in sorted(queries) if offers[row].product_id and position.get(offers[row].product_id)]
    return Split(
        offers=offers,
        targets=targets,
        queries=queries,
        gallery=gallery,
        relevant=[np.array(position[offers[row].product_id]) for row in queries],
        families=[offers[row].column(section.family_column or "") or offers[row].product_id for row in queries],
    )
