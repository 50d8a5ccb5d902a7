"""GTINs: the numbers below barcodes (UPC, EAN, ISBN), read from what shops write and brought to 14 digits."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from afmrl.data.check_digit import check_digit, has_check_digit

_NAMES = (
    r"gtins?|eans?|upc[ae]?s?|isbns?|jancode|bar ?codes?|strichcode|codice a barre|codes? barres?|"
    r"código de barras|codigo de barras|kod kreskowy|streepjescode|条码|条形码|商品条码|バーコード|janコード"
)
_BESIDE = (
    r"codes?|number|numbers|nummer|numéro|num|nr|no|or|oder|and|und|a|e|8|10|12|13|14|id|identifier|value|product|"
    r"variant|article|artikel|item|global|trade|universal|european|international|kod|código|codice"
)
_NAMESPACE = re.compile(r"^[a-z]{1,8}:")
# no spaces are left in the name of a key: eancode, "EAN code" and ean_code are one
_KEY = re.compile(rf"(?:{_NAMES.replace(' ?', '').replace(' ', '')}|{_BESIDE})+")
_NAMED = re.compile(_NAMES.replace(" ?", "").replace(" ", ""))
_LABEL = re.compile(
    r"^(?:(?:gtin|ean|upc|isbn|jan|barcode)(?:[- ]?(?:8|10|12|13|14|[ae]))?(?![a-z\d])"
    r"(?:[- ]?(?:code|nr|no|number))?[\s.:#]*)+"
)
_SCIENTIFIC = re.compile(r"(\d(?:[.,]\d+)?) ?e ?\+? ?(\d{1,2})", re.IGNORECASE)
_DECIMALS = re.compile(r"[.,]0+$")
_GAPS = re.compile(r"[\s\u2010-\u2015-]+")
_SEVERAL = re.compile(r"[;|/\n]+|,(?!\d+ ?[eE])")  # 5,90123E+12 is one number
_RESTRICTED = ("02", "04", "05", "98", "99")
ROUNDED = "rounded by a spreadsheet"
WRONG_CHECK_DIGIT = "with a wrong check digit"
_LENGTHS = (8, 11, 12, 13, 14)  # 11: a UPC whose zero in front a spreadsheet has dropped
_ROUNDED = re.compile(r"\d{1,8}0{6,}")


@functools.lru_cache(maxsize=4096)
def is_gtin_key(key: str) -> bool:
    """Whether a column or an attribute of this name holds GTINs, however it is spelled.

    >>> [is_gtin_key(key) for key in ("EAN code", "GTIN/EAN", "g:gtin", "Variant Barcode", "isbn13", "mean", "mpn")]
    [True, True, True, True, True, False, False]
    """
    name = re.sub(r"[\W_]+", "", _NAMESPACE.sub("", _folded(key)))
    return bool(_KEY.fullmatch(name)) and bool(_NAMED.search(name))


def normalize_gtin(value: Any) -> str | None:
    """A UPC, EAN, GTIN or ISBN as 14 digits; None where the value is none, or its check digit is wrong.

    Hyphens, spaces, a name in front ("EAN: …"), a decimal ".0" and zeros that a spreadsheet has dropped are mended.
    An ISBN-10 becomes its ISBN-13, a UPC-E the UPC-A that it is short for.

    >>> {normalize_gtin(code) for code in ("4006381333931", "4006381333931.0", "04006381333931", 4006381333931)}
    {'04006381333931'}
    >>> normalize_gtin("0-306-40615-2") == normalize_gtin("ISBN 978-0-306-40615-7")
    True
    >>> normalize_gtin("04252614") == normalize_gtin("042100005264")
    True
    >>> normalize_gtin("5.90123E+12"), normalize_gtin("4006381333932"), normalize_gtin("0000000000000")
    (None, None, None)
    """
    digits = _digits(value)
    if digits is None or _is_rounded(digits):
        return None
    if len(digits) == 10:
        return _of_isbn(digits)
    if len(digits) in (7, 8) and (expanded := _of_upc_e(digits)):
        return expanded
    if len(digits) not in _LENGTHS or not digits.isdigit() or not digits.strip("0"):
        return None
    return digits.zfill(14) if has_check_digit(digits) else None


def gtins_in(value: Any) -> list[str]:
    """All GTINs of an attribute's value, which may be a list or several in one text.

    >>> gtins_in("4006381333931, 4006381333948"), gtins_in("978 0 306 40615 7")
    (['04006381333931', '04006381333948'], ['09780306406157'])
    """
    if isinstance(value, list | tuple | set | frozenset):
        return list(dict.fromkeys(gtin for one in value for gtin in gtins_in(one)))
    if gtin := normalize_gtin(value):
        return [gtin]
    if not isinstance(value, str):
        return []
    for parts in (re.split(r"[,;|/\n]+", value), re.split(r"[,;|/\s]+", value)):
        if found := _of(parts):
            return found
    return []


def is_destroyed_gtin(value: Any) -> bool:
    """Whether a spreadsheet has rounded the number to a few digits, so that strangers share it.

    >>> [is_destroyed_gtin(value) for value in ("5.90123E+12", "5,90123E+12", 5901230000000.0, "5901234123457")]
    [True, True, True, False]
    """
    if isinstance(value, str) and (match := _SCIENTIFIC.fullmatch(_folded(value).strip("'\" "))):
        return int(match[2]) >= 7 and _digits(value) is None
    digits = _digits(value)
    return digits is not None and _is_rounded(digits)


def gtin_faults(value: Any) -> list[str]:
    """Why numbers that were meant as GTINs are none: ROUNDED or WRONG_CHECK_DIGIT, one a number.

    >>> [gtin_faults(value) for value in ("5.90123E+12", "4006381333932", "4006381333931, 4006381333932", "n/a")]
    [['rounded by a spreadsheet'], ['with a wrong check digit'], ['with a wrong check digit'], []]
    """
    faults = []
    for one in value if isinstance(value, list | tuple | set | frozenset) else [value]:
        whole = is_destroyed_gtin(one) or not isinstance(one, str)
        for part in [one] if whole else _SEVERAL.split(one):
            if is_destroyed_gtin(part):
                faults.append(ROUNDED)
            elif not gtins_in(part) and (digits := _digits(part)) and len(digits) in _LENGTHS and digits.strip("0"):
                faults.append(WRONG_CHECK_DIGIT)
    return faults


def is_restricted_gtin(gtin: str) -> bool:
    """Whether a valid GTIN is one that any shop may give: in-store and weighed goods, coupons, refund receipts.

    GS1 leaves to each shop what begins with 02, 04 or 20 to 29 (of a UPC: 2 and 4), and of eight digits with 0 or 2.
    05, 98 and 99 are coupons and receipts.

    >>> [is_restricted_gtin(gtin) for gtin in ("2012345678900", "212345678901", "20123451", "4006381333931")]
    [True, True, True, False]
    """
    digits = gtin.zfill(14)
    if digits.startswith("000000"):
        return digits[6] in "02"
    return digits[1] == "2" or digits[1:3] in _RESTRICTED


def _of(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(gtin for part in parts if (gtin := normalize_gtin(part))))


def _digits(value: Any) -> str | None:
    """The signs of a number, an ISBN's x included; None where it has others, or where digits are lost."""
    if isinstance(value, bool) or value is None:
        return None
    if not isinstance(value, str):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return str(int(value)) if math.isfinite(number) and number == int(number) and number > 0 else None
    text = _folded(value).strip("=\"'` ")
    if match := _SCIENTIFIC.fullmatch(text):
        try:
            number_of = Decimal(match[1].replace(",", ".")).scaleb(int(match[2]))
        except InvalidOperation:
            return None
        exact = len(match[1]) - 1 > int(match[2]) or len(re.sub(r"\D", "", match[1])) == int(match[2]) + 1
        return str(int(number_of)) if exact and number_of == int(number_of) else None
    text = _DECIMALS.sub("", text.removeprefix("(01)"))
    text = _GAPS.sub("", _LABEL.sub("", text))
    return text if re.fullmatch(r"\d+x?", text) and text.isascii() else None


def _is_rounded(digits: str) -> bool:
    return 11 <= len(digits) <= 14 and _ROUNDED.fullmatch(digits) is not None and bool(digits.strip("0"))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _of_isbn(digits: str) -> str | None:
    values = [10 if sign == "x" else int(sign) for sign in digits]
    if sum(value * (10 - place) for place, value in enumerate(values)) % 11 or not digits.strip("0"):
        return None
    first = f"978{digits[:9]}"
    return f"{first}{check_digit(first)}".zfill(14)


def _of_upc_e(digits: str) -> str | None:
    """The UPC-A that a UPC-E is short for; None where it is none.

    What begins with 0 is a UPC-E, because EAN-8s that do never leave their shop. What begins with 1 is one only where
    it is no EAN-8. Seven digits are a UPC-E whose zero in front a spreadsheet has dropped.
    """
    digits = digits.zfill(8)
    if not digits.isdigit() or digits[0] not in "01" or not digits[1:7].strip("0"):
        return None
    if digits[0] == "1" and has_check_digit(digits):
        return None
    body, last = digits[1:6], digits[6]
    if last in "012":
        body = f"{body[:2]}{last}0000{body[2:]}"
    elif last == "3":
        body = f"{body[:3]}00000{body[3:]}"
    elif last == "4":
        body = f"{body[:4]}00000{body[4:]}"
    else:
        body = f"{body}0000{last}"
    whole = f"{digits[0]}{body}{digits[7]}"
    return whole.zfill(14) if has_check_digit(whole) else None
