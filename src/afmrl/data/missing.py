"""Values that say nothing: what shops and exports write where they have no value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from afmrl.data.normalized import normalize

# compared by their words alone: n/a, N.A. and (n. a.) are one
_NOTHING = frozenset({
    # exports and programs
    "nan", "na", "n a", "nat", "null", "nil", "none", "undefined", "unset", "empty", "default title", "n d",
    "tbd", "tba", "tbc", "to be determined", "to be announced", "no data", "no value", "no info", "no information",
    # English
    "unknown", "unspecified", "not visible", "not specified", "not available", "not applicable", "not mentioned",
    "not provided", "not known", "not given", "not stated", "not listed", "not set", "not disclosed", "unavailable",
    "does not apply", "doesn t apply", "do not apply", "see description", "see item description", "see title",
    "see details", "see text", "see above", "see below", "see picture", "see pictures", "see image", "see images",
    "see photo", "see photos", "as described", "as pictured", "as shown", "unbranded", "no brand", "nobrand",
    "non branded", "without brand", "brandless", "unbranded generic", "no name", "noname",
    # German
    "k a", "keine angabe", "keine angaben", "ohne angabe", "nicht zutreffend", "trifft nicht zu", "nicht angegeben",
    "nicht verfügbar", "nicht vorhanden", "nicht bekannt", "unbekannt", "entfällt", "siehe beschreibung",
    "siehe artikelbeschreibung", "siehe text", "siehe titel", "siehe bild", "siehe foto", "siehe oben", "markenlos",
    "ohne marke", "keine marke",
    # French
    "non applicable", "ne s applique pas", "sans objet", "non spécifié", "non renseigné", "non précisé", "inconnu",
    "inconnue", "non disponible", "voir description", "voir la description", "sans marque",
    # Spanish and Portuguese
    "no aplica", "no aplicable", "no procede", "no especificado", "sin especificar", "desconocido", "no disponible",
    "ver descripción", "sin marca", "não se aplica", "não aplicável", "não especificado", "desconhecido", "sem marca",
    # Italian
    "non specificato", "non disponibile", "sconosciuto", "vedi descrizione", "senza marca",
    # Dutch and Polish
    "n v t", "niet van toepassing", "onbekend", "niet gespecificeerd", "zie beschrijving", "merkloos", "nie dotyczy",
    "brak", "brak danych", "nieznany", "nie podano", "bez marki",
    # Chinese and Japanese
    "未知", "不详", "不明", "未提供", "未注明", "不适用", "暂无", "无品牌", "见描述", "详见描述", "該当なし",
    "ノーブランド",
})  # fmt: skip
_NO_IDENTIFIER = frozenset({
    "generic", "other", "others", "various", "misc", "miscellaneous", "default", "no", "yes", "x", "xx", "xxx", "xxxx",
    "test", "dummy", "placeholder", "custom", "own brand", "oem", "sonstige", "andere", "diverse", "ohne", "keine",
    "nein", "autre", "otro", "altro", "其他", "无", "通用",
})  # fmt: skip
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_ALTERNATIVES = re.compile(r" / |(?<=\w{3})/(?=\w{3})| *[,;|] *| or | oder ")
_EXPLAINED = re.compile(r"(?<=\w) ?\([^()]*\)\.?$")  # unknown (not visible)
_SYMBOLS = re.compile(r"[+=°%$€£&@#<>^|½¼¾]|[\u2190-\u2bff]|[\U0001f000-\U0001faff]")
_ZEROS = re.compile(r"[0.,\s-]+")
_WORD = re.compile(r"[^\W_]")
LONGEST = 300
"""Characters of a text that is compared with what is written for nothing."""


def says_nothing(value: Any, *, identifier: bool = False) -> bool:
    """Whether a value is only written where there is none: NaN, null, "N/A", "-", "does not apply", 未知.

    A list or a mapping says nothing where all of its values say nothing.

    Args:
        identifier: the value is a brand or a number that names a product (GTIN, MPN). Then zeros, "generic" and
            "other" say nothing either. Of another key, 0 is a value like any other.

    >>> [says_nothing(value) for value in (float("nan"), "n. a.", "--", "Does not apply", ["", None], "0", "no", "red")]
    [True, True, True, True, True, False, False, False]
    >>> says_nothing("000000", identifier=True), says_nothing("Generic", identifier=True)
    (True, True)
    """
    if value is None:
        return True
    if isinstance(value, str):
        if len(value) > LONGEST:  # text that long says something, unless it is blank or a ruled line
            return not _WORD.search(value) and not _SYMBOLS.search(value)
        return _text_says_nothing(value, identifier)
    if isinstance(value, float) and math.isnan(value):
        return True
    if isinstance(value, Mapping):
        return all(says_nothing(one, identifier=identifier) for one in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(says_nothing(one, identifier=identifier) for one in value)
    return _text_says_nothing(str(value), identifier)  # pandas' NA and NaT, numbers


@lru_cache(maxsize=2**16)
def _text_says_nothing(text: str, identifier: bool) -> bool:
    text = normalize(text)
    words = _BETWEEN_WORDS.sub(" ", text).strip()
    if not words:
        return not _SYMBOLS.search(text)  # a plus pole or an emoji is a value
    if words in _NOTHING or (identifier and (words in _NO_IDENTIFIER or bool(_ZEROS.fullmatch(text)))):
        return True
    if len(parts := _ALTERNATIVES.split(text)) > 1:  # does not apply / n.a.
        return all(part.strip() and _text_says_nothing(part, identifier) for part in parts)
    plain = _EXPLAINED.sub("", text)
    return plain != text and _text_says_nothing(plain, identifier)
