"""Colors: what they are called in shops, in several languages, and which of them a text names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from afmrl.attributes.words import has_ideographs

_ENGLISH = (
    "black white red blue green yellow orange purple pink brown gray silver gold beige navy turquoise teal violet "
    "ivory bronze copper burgundy charcoal cream khaki olive maroon magenta cyan titanium graphite champagne lime "
    "coral lavender rose tan platinum bisque almond clear multicolor"
)
# a name, then what it is in English
_GERMAN = (
    "schwarz black weiß white weiss white rot red blau blue grün green gelb yellow braun brown grau gray silber silver "
    "rosa pink lila purple"
)
_CHINESE = (
    "黑色 black 白色 white 红色 red 蓝色 blue 绿色 green 黄色 yellow 橙色 orange 紫色 purple 粉色 pink 灰色 gray "
    "棕色 brown 银色 silver 金色 gold"
)
_EUROPEAN = (
    "noir black noire black schwarze black schwarzer black schwarzes black zwart black nero black nera black negro "
    "black negra black sort black svart black czarny black czarna black blanc white blanche white bianco white "
    "bianca white blanco white weißes white wit white vit white biały white rouge red rosso red rossa red rojo red "
    "roja red rood red röd red rød red czerwony red rotes red bleu blue bleue blue azul blue blauw blue blu blue "
    "blå blue niebieski blue blaues blue jaune yellow giallo yellow gialla yellow amarillo yellow geel yellow gul "
    "yellow gult yellow żółty yellow gelbes yellow vert green verte green verde green groen green grön green grøn "
    "green zielony green grünes green gris gray grigio gray grijs gray grå gray argent silver plata silver zilver "
    "silver naranja orange arancione orange oranje orange marron brown marrone brown bruin brown brun brown viola "
    "purple morado purple violett purple paars purple rosé pink roze pink ciano cyan cian cyan zyan cyan oro gold "
    "goud gold dorado gold guld gold"
)


def _translated(words: str) -> dict[str, str]:
    """Names by their translations, of a text where they take turns."""
    split = words.split()
    return dict(zip(split[::2], split[1::2], strict=True))


COLORS: Mapping[str, str] = {
    **{name: name for name in (*_ENGLISH.split(), "stainless steel")},
    "grey": "gray",
    "blk": "black",
    "wht": "white",
    "multicolour": "multicolor",
    **_translated(_GERMAN),
    **_translated(_CHINESE),
}
"""Names of colors in English, German and Chinese, each with the English one: what key attributes are read by."""
EUROPEAN_COLORS: Mapping[str, str] = {**COLORS, **_translated(_EUROPEAN), "rose": "pink"}
"""COLORS and those of other European languages, for catalogs of several countries. "rose" is a pink there."""
SHADES = ("dark", "light", "deep", "bright", "pale", "navy", "royal", "sky", "matte")


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _pattern(names: Iterable[str], before: str = "") -> re.Pattern[str]:
    """Finds names: whole words in alphabets, anywhere in Chinese, which has no spaces."""
    spaced = [name for name in names if not has_ideographs(name)]
    return re.compile(rf"(?<!\w){before}({_any_of(spaced)})(?!\w)|({_any_of(set(names) - set(spaced))})")


_SHADED = _pattern(COLORS, before=rf"(?:({'|'.join(SHADES)})[ -])?")
_EUROPEAN_NAMES = _pattern(EUROPEAN_COLORS)


def shaded_colors(text: str) -> list[str]:
    """Colors of a normalized text in English, Chinese or German, with their shades, each once.

    >>> shaded_colors("deep red and weiß, navy")
    ['deep red', 'white', 'navy']
    """
    found = (
        f"{shade} {name}" if shade else name
        for shade, name in ((match[1], COLORS[match[2] or match[3]]) for match in _SHADED.finditer(text))
    )
    return list(dict.fromkeys(found))


def plain_colors(text: str) -> list[str]:
    """Colors of a normalized text in a European language or Chinese, without shades, each once.

    >>> plain_colors("toner giallo / black on white")
    ['yellow', 'black', 'white']
    """
    names = (EUROPEAN_COLORS[match[1] or match[2]] for match in _EUROPEAN_NAMES.finditer(text))
    return list(dict.fromkeys(names))
