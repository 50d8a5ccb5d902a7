"""Vetoes: which keys keep two offers apart when they conflict, and which pairs conflict.

Two offers conflict in a key where both state a value and the values cannot be the same. A conflict in a key that vetoes
keeps the two out of one group, however alike they are. A conflict in another key only lowers their score.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any
from zlib import crc32

import numpy as np

from afmrl.data.gtin import is_restricted_gtin
from afmrl.errors import InputError
from afmrl.matching.columns import HASHES
from afmrl.matching.facts.choices import CHOICES
from afmrl.matching.facts.facts import key_name
from afmrl.matching.facts.packs import CONTENT, MULTIPACK
from afmrl.matching.table import OfferTable

CODES = ("model", "series", "variant")
"""Read off model numbers; all other keys are compared by their values."""
MODEL = "model"
"""What a reader calls model numbers, series and variants: all of them name the model."""
ALIASES = {"colour": "color", "storage": "memory", "pack count": "pack", "ean": "gtin", "upc": "gtin"}
EACH_ITS_OWN = frozenset(("color", "memory"))
"""Keys that conflict where each offer has a value that the other lacks: 8 + 128 GB and 8 + 256 GB. In other keys with
several values all must differ, unless both offers name as many: of a width and a height, a shop may leave out one."""
DEFAULT_VETOES = (
    *CODES, "gtin", "mpn", "color", "size", "memory", "pack", "users", "year", "edition", "license", "platform",
    "length", "weight", "volume", "area", "power", "voltage", "charge", "zoom", "speed", "speeds", "ports", "cups",
    "pages", "aperture", "bits", "duration", *CHOICES,
)  # fmt: skip
"""Keys that veto by default; docs/results/matching.md has what each one costs and saves on labeled pairs."""
MAX_GTINS = 2
"""An offer with more of them lists its variants: it is the same product as none of them for that alone."""
MAX_NAMED = 20
"""Attributes that an error message lists."""
SURE_DIGITS = 11
"""Of a GTIN in a title, without leading zeros."""
SOFT = ("version", "pixels", "frequency", "rate", "resolution")
"""Differ between shops too often to veto (base and boost clock, gross and net pixels): they only lower the score."""


def veto_keys(veto: Collection[str] = (), no_veto: Collection[str] = ()) -> tuple[str, ...]:
    """Which keys veto: the default ones and `veto`, without `no_veto`.

    >>> "color" in veto_keys(no_veto=["colour"]), veto_keys(veto=["material"])[-1]
    (False, 'material')

    Raises:
        InputError: a key of both, or one to take away that does not veto.
    """
    named = [(keys,) if isinstance(keys, str) else keys for keys in (veto, no_veto)]
    added, removed = ([_key(key) for key in keys] for keys in named)
    both = set(added) & set(removed)
    if both:
        raise InputError(f"--veto and --no-veto both name {sorted(both)[0]!r}; give it once")
    unknown = [key for key in removed if key not in DEFAULT_VETOES and key != MODEL]
    if unknown:
        known = ", ".join(dict.fromkeys(public_key(key) for key in DEFAULT_VETOES))
        raise InputError(f"--no-veto {unknown[0]}: does not veto; these do: {known}")
    gone = {*removed, *(CODES if MODEL in removed else ())}
    return tuple(dict.fromkeys(key for key in (*DEFAULT_VETOES, *added) if key not in gone))


def _key(name: str) -> str:
    name = ALIASES.get(name.lower(), name.lower())
    return name if name in DEFAULT_VETOES or name == MODEL else key_name(name)


def check_vetoes(table: OfferTable, veto: Collection[str]) -> None:
    """Refuse a veto that no offer can meet: most often the name is misspelled.

    Raises:
        InputError: names the nearest of the attributes that offers have.
    """
    stated = [key for key, columns in table.keys.items() if table.values[:, columns].nnz]
    known = list(
        dict.fromkeys(
            public_key(key.split(" ")[0] if key.startswith(("series ", "variant ")) else key) for key in stated
        )
    )
    for name in (veto,) if isinstance(veto, str) else veto:
        key = _key(name)
        if key in DEFAULT_VETOES or key in known:
            continue
        near = difflib.get_close_matches(key, known, 3, 0.6)
        others = f"did you mean {' or '.join(near)}?" if near else f"they have: {', '.join(sorted(known)[:MAX_NAMED])}"
        generated = " but the generator, whose attributes never veto" if key in table.keys else ""
        raise InputError(f"--veto {name}: no offer has this attribute{generated}; {others}")


def public_key(key: str) -> str:
    """What a reader knows a key by.

    >>> public_key("series"), public_key("color")
    ('model', 'color')
    """
    return MODEL if key in CODES else key


def paired(left: Any, right: Any, left_rows: np.ndarray, right_rows: np.ndarray) -> np.ndarray:
    """(P,) float32 products of P pairs of rows of two sparse matrices of one width."""
    if not len(left_rows) or not left.nnz or not right.nnz:
        return np.zeros(len(left_rows), dtype=np.float32)
    return np.asarray(left[left_rows].multiply(right[right_rows]).sum(axis=1), dtype=np.float32).ravel()


class Conflicts:
    """What pairs of offers of one table agree and differ in.

    Args:
        keys: compared by their values, in addition to DEFAULT_VETOES and SOFT.
    """

    def __init__(self, table: OfferTable, keys: Collection[str] = ()) -> None:
        self.table = table
        self.keys = tuple(dict.fromkeys((*DEFAULT_VETOES, *SOFT, *keys)))
        self._by_value = {key: table.values[:, table.keys[key]] for key in self.keys if key in table.keys}
        if "gtin" in self._by_value:
            gtins = dict.fromkeys(fact.value for fact in table.vocabulary if fact.key == "gtin")
            restricted = np.array([is_restricted_gtin(gtin) for gtin in gtins])
            self._in_store = self._by_value["gtin"][:, restricted]
            self._by_value["gtin"] = self._by_value["gtin"][:, ~restricted]
        self._counts = {key: np.diff(values.indptr).astype(np.int16) for key, values in self._by_value.items()}
        self._codes = np.diff(table.codes.indptr) > 0
        self._series = _single(table, "series ")
        self._variants = _single(table, "variant ")
        self._multipacks = _multipacks(table)
        self._gtins, self._gtin_names = _sure_gtins(table)
        self._num_gtins = np.diff(self._gtins.indptr)

    def of_pairs(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which keys agree and which conflict.

        Shape:
            returns (P, K) bool twice, columns as `keys`.
        """
        agree = np.zeros((len(left), len(self.keys)), dtype=bool)
        differ = np.zeros_like(agree)
        for place, key in enumerate(self.keys):
            if key in CODES or key in ("pack", "gtin"):
                agree[:, place], differ[:, place] = getattr(self, f"_of_{key}")(left, right)
            elif key in self._by_value:
                self._compare(key, left, right, agree[:, place], differ[:, place])
        return agree, differ

    def _compare(self, key: str, left: np.ndarray, right: np.ndarray, agree: np.ndarray, differ: np.ndarray) -> None:
        ours, theirs = self._counts[key][left], self._counts[key][right]
        both = np.flatnonzero((ours > 0) & (theirs > 0))
        shared = paired(self._by_value[key], self._by_value[key], left[both], right[both])
        # both name as many values, 9 × 7 and 12 × 7: nothing was left out, so a conflict is real
        apart = (shared < ours[both]) & (shared < theirs[both])
        if key not in EACH_ITS_OWN:
            apart &= (shared == 0) | (ours[both] == theirs[both])
        differ[both] = apart
        agree[both] = ~apart

    def codes_of_pairs(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P,) bool three times: a code of one is in the other; a part of it is; both have codes of one scheme, and no
        code is in both."""
        table = self.table
        same = (paired(table.codes, table.forms, left, right) + paired(table.forms, table.codes, left, right)) > 0
        loose = (
            paired(table.codes, table.loose, left, right)
            + paired(table.loose, table.codes, left, right)
            + paired(table.stems, table.stems, left, right)
        ) > 0
        conflict = np.zeros(len(left), dtype=bool)
        rows = np.flatnonzero(self._codes[left] & self._codes[right] & ~same & ~loose)
        conflict[rows] = paired(table.schemes, table.schemes, left[rows], right[rows]) > 0
        return same, loose & ~same, conflict

    def _of_gtin(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        agree, differ = np.zeros((2, len(left)), dtype=bool)
        if "gtin" in self._by_value:
            self._compare("gtin", left, right, agree, differ)
            # numbers that each shop gives as it likes agree like any other code; that two differ says nothing
            agree |= ~differ & (paired(self._in_store, self._in_store, left, right) > 0)
        return agree, differ

    def _of_pack(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        agree, differ = np.zeros((2, len(left)), dtype=bool)
        if "pack" not in self._by_value:
            return agree, differ
        self._compare("pack", left, right, agree, differ)
        # a pack of four and an offer that says nothing of a pack, unless a code or a number is in both, or what is in
        # them can be compared
        counted, several = self._counts["pack"] > 0, np.diff(self._multipacks.indptr) > 0
        one = (several[left] & ~counted[right]) | (several[right] & ~counted[left])
        for kind in CONTENT:
            if kind in self._counts:
                one &= (self._counts[kind][left] == 0) | (self._counts[kind][right] == 0)
        rows = np.flatnonzero(one)
        ours, theirs, forms = left[rows], right[rows], self.table.forms
        named = (paired(self._multipacks, forms, ours, theirs) + paired(forms, self._multipacks, ours, theirs)) > 0
        same, loose, _ = self.codes_of_pairs(ours, theirs)
        differ[rows] = ~(named | same | loose)
        return agree, differ

    def same_gtin(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) bool: all GTINs of one are GTINs of the other too, be it one GTIN or two."""
        same = np.zeros(len(left), dtype=bool)
        ours, theirs = self._num_gtins[left], self._num_gtins[right]
        rows = np.flatnonzero((ours > 0) & (theirs > 0) & (np.maximum(ours, theirs) <= MAX_GTINS))
        shared = paired(self._gtins, self._gtins, left[rows], right[rows])
        same[rows] = shared == np.minimum(ours, theirs)[rows]
        return same

    def shared_gtins(self, left: int, right: int) -> list[str]:
        """The GTINs that two offers share."""
        return [self._gtin_names[column] for column in self._gtins[left].multiply(self._gtins[right]).indices]

    def _of_model(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        same, loose, conflict = self.codes_of_pairs(left, right)
        return same | loose, conflict

    def _of_series(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared_names, shared = _compared(self._series, left, right)
        conflict = shared_names > shared
        rows = np.flatnonzero(conflict)
        table = self.table
        # sx10is, sx10 is: written apart it is the same
        elsewhere = np.maximum(
            paired(table.series, table.forms, left[rows], right[rows]),
            paired(table.forms, table.series, left[rows], right[rows]),
        )
        conflict[rows] = elsewhere <= shared[rows]
        return shared > 0, conflict

    def _of_variant(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared_names, shared = _compared(self._variants, left, right)
        return shared > 0, shared_names > shared


def _multipacks(table: OfferTable) -> Any:
    """(N, 2^31) how many pieces an offer's pack has, hashed as `table.forms` is; nothing for single pieces."""
    from scipy import sparse

    columns = [column for column, fact in enumerate(table.vocabulary) if fact.key == MULTIPACK]
    hashes = np.array([crc32(table.vocabulary[column].value.encode()) & HASHES for column in columns], dtype=np.int32)
    stated = table.facts[:, columns]
    # the columns are renamed: a product with a matrix so wide would need its width in memory
    entries: Any = (np.ones(stated.nnz, np.float32), hashes[stated.indices], stated.indptr)
    shape: Any = (len(table), HASHES)
    return sparse.csr_matrix(entries, shape=shape)


def _sure_gtins(table: OfferTable) -> tuple[Any, list[str]]:
    """(N, U) GTINs that a seller states as such, and those of a title that are too long to be a chance number, without
    those that each shop gives as it likes; and their digits."""
    from scipy import sparse

    sure = [
        (column, fact.value)
        for column, fact in enumerate(table.vocabulary)
        if fact.key == "gtin"
        and not is_restricted_gtin(fact.value)
        and (fact.source == "seller" or (fact.source == "extracted" and len(fact.value) >= SURE_DIGITS))
    ]
    names = list(dict.fromkeys(value for _, value in sure))
    if not names:
        none: Any = (len(table), 1)
        return sparse.csr_matrix(none, dtype=np.float32), names
    place = {value: number for number, value in enumerate(names)}
    shape: Any = (len(table.vocabulary), len(names))
    rows, columns = [column for column, _ in sure], [place[value] for _, value in sure]
    gtins = (table.facts @ sparse.csr_matrix((np.ones(len(sure), np.float32), (rows, columns)), shape=shape)).tocsr()
    gtins.data[:] = 1
    return gtins, names


def _single(table: OfferTable, prefix: str) -> tuple[Any, Any]:
    """(N, U) values and (N, K) keys of all keys that begin so; an offer has one value of each."""
    from scipy import sparse

    keys = [key for key in table.keys if key.startswith(prefix)]
    columns = [np.arange(table.keys[key].start, table.keys[key].stop) for key in keys]
    if not columns:
        shape: Any = (len(table), 1)
        nothing = sparse.csr_matrix(shape, dtype=np.float32)
        return nothing, nothing
    values = table.values[:, np.concatenate(columns)]
    of_key = np.repeat(np.arange(len(keys)), [len(of) for of in columns])
    ones = np.ones(len(of_key), dtype=np.float32)
    return values, values @ sparse.csr_matrix((ones, (np.arange(len(of_key)), of_key)), shape=(len(of_key), len(keys)))


def _compared(single: tuple[Any, Any], left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, keys = single
    shared_keys = paired(keys, keys, left, right)
    shared = np.zeros_like(shared_keys)
    rows = np.flatnonzero(shared_keys)
    shared[rows] = paired(values, values, left[rows], right[rows])
    return shared_keys, shared
