"""Words for packs and their pieces, in the languages of Europe: "pack of two", "Dreierpack", "doos van 6", "6 szt."."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

PIECES = (
    "pz pza pezzi pezzo piece pièces pieces pièce pieza piezas ud uds unid unidad unidades unidade unités unites unità "
    "peças pecas stk stck stück stücke stueck stuk stuks stycken szt sztuk sztuki sztuka ks kusů kusy darab darabos "
    "adet buc bucăți bucati kpl kappaletta kom komada komadi kosov vnt gab шт штук штуки бр броя τμχ τεμ τεμάχια"
)
"""What a pack's pieces are called. Left out is what is as often something else: db (decibels), st (stone, saint), un,
und, tk."""
_BOX = (
    "pack packs multipack multi-pack packet set sets box lot case carton tray bundle sleeve "
    "packung packungen karton kiste kasten gebinde doos doosje pak pakket verpakking krat "
    "paquet boîte boite caisse coffret étui etui paquete caja lote estuche juego caixa pacote conjunto embalagem fardo "
    "pacco confezione conf conf. scatola cartone cassa cutie pachet förpackning paket låda pakke pakning æske eske "
    "kasse balení krabice sada opakowanie karton zestaw zgrzewka"
)
_OF = "of de da di con com cu à a von mit zu van med om av po x"
_NUMERALS = (
    "1 one; 2 two zwei deux dos due dois duas twee två dwa; 3 three drei trois tres três tre drie; "
    "4 four vier quatre cuatro quattro quatro fyra; 5 five fünf cinq cinco cinque vijf fem; "
    "6 six sechs seis sei zes sex seks; 7 seven sieben sept siete sette zeven sju; "
    "8 eight acht huit ocho otto oito åtta; 9 nine neun nueve nove negen; 10 ten zehn dix diez dieci dez tien; "
    "12 twelve zwölf douze doce dodici doze twaalf tolv"
)
_MANY = (
    "1 single; 2 twin double dual two duo bi doppel dubbel dobbelt zweier två twee dwu dvoj; "
    "3 triple three trio tri dreier tre drie trój troj trzy; 4 quad four vierer vier fyr cztero; 5 five fünfer fem "
    "vijf; 6 six sechser sex zes sześcio; 7 seven; 8 eight achter; 9 nine neuner; 10 ten zehner; 12 twelve zwölfer; "
    "20 zwanziger"
)
_AFTER_ER = (
    r"(?:(?:spar|vorrats|vorteils|multi|familien|riesen|mega)-?)?(?:pack(?:ung(?:en)?)?|pak|set|box|karton|kasten|"
    r"träger|paket|bundle|pk)"
)


def _numbers(listed: str) -> dict[str, int]:
    return {word: int(number) for number, *words in (part.split() for part in listed.split("; ")) for word in words}


NUMERALS, MANY, _DOUBLE = (
    _numbers(_NUMERALS),
    _numbers(_MANY),
    _numbers("2 duo doble double doppia duplo; 3 trio triple tripla"),
)


def any_of(words: Collection[str] | Mapping[str, int]) -> str:
    """A pattern for any of some words, the longest first.

    >>> any_of(["six", "sixteen"])
    'sixteen|six'
    """
    return "|".join(re.escape(word) for word in sorted(set(words), key=len, reverse=True))


def pack_pattern(other_units: Collection[str]) -> re.Pattern[str]:
    """How many pieces a pack has, in one of the pattern's groups: digits or a word, for `pack_count`.

    Args:
        other_units: what makes a number behind "pack of" a size: a set of 5 l.
    """
    no_size = rf"(?!\w|[.,]\d|[ -]?(?:{any_of(other_units)})(?!\w))"
    return re.compile(
        rf"(?<!\w)(?:{any_of(_BOX.split())}) (?:{any_of(_OF.split())}) (\d{{1,5}}|{any_of(NUMERALS)}){no_size}|"
        rf"(?<![\w.,-])(\d{{1,4}})(?:['’]?er|-er| er)[ -]?{_AFTER_ER}(?!\w)|"
        r"\((\d{1,3})['’]?er\)|"
        r"(?<![\w.,-])(\d{1,3})(?:['’] ?l[ıiuü](?!\w)|[ -]?l[ıiuü][ -](?:paket|set|kutu)\w*)|"
        # bodies have sixpacks too
        rf"(?<!\w)({any_of(MANY)})[ -]?(?:pack(?:ung|s)?|pakk?|pakke|balení)(?!\w)(?!-? ?(?:abs?|bauch|train|workout))|"
        rf"(?<!\w)(?:pack|lot|confezione|packung|embalagem) ({any_of(_DOUBLE)})(?!\w)|"
        rf"(?<!\w)({any_of([word for word in MANY if word.endswith('er')])})-?(?:set|box|karton|kasten|träger)(?!\w)|"
        r"(?<![\w.,-])(\d{1,4})(?: ?db-os|[ ]?db ?/ ?cs)|"
        r"(?<![\w.,-])(\d{1,4})[ -]?(?:cans?|bottles?|tins?|dosen?|flaschen?|lattine|bottiglie|bouteilles|latas|"
        r"botellas|puszek|butelek)\b"
    )


def pack_count(found: re.Match[str]) -> float:
    """The number that `pack_pattern` found.

    >>> pack_count(pack_pattern(["ml"]).search("cola sixpack, 330 ml"))
    6.0
    """
    number = next(filter(None, found.groups()))
    return float(number if number.isdigit() else (MANY | NUMERALS | _DOUBLE)[number])
