"""Colors that a text names, in the languages of European shops and Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping

from afmrl.attributes.extractor import COLORS

_MORE = (
    "noir black noire black schwarze black schwarzer black zwart black nero black nera black negro black negra "
    "black sort black svart black czarny black czarna black blanc white blanche white bianco white bianca white "
    "blanco white weiss white wit white vit white biały white rouge red rosso red rossa red rojo red roja red "
    "rood red röd red rød red czerwony red bleu blue bleue blue azul blue blauw blue blu blue blå blue niebieski "
    "blue jaune yellow giallo yellow gialla yellow amarillo yellow geel yellow gul yellow gult yellow żółty "
    "yellow vert green verte green verde green groen green grön green grøn green zielony green gris gray grigio "
    "gray grijs gray grå gray argent silver plata silver zilver silver orange orange naranja orange arancione "
    "orange oranje orange marron brown marrone brown bruin brown brun brown viola purple morado purple violett "
    "purple paars purple rose pink rosé pink roze pink magenta magenta cyan cyan ciano cyan cian cyan zyan cyan "
    "oro gold goud gold dorado gold guld gold schwarzes black rotes red blaues blue grünes green gelbes yellow "
    "weißes white blk black wht white"
)
_WORDS = _MORE.split()
NAMES: Mapping[str, str] = {**COLORS, **dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))}
"""What a color is called in shops, and its English name."""
_LATIN = [name for name in NAMES if not re.search("[\u4e00-\u9fff]", name)]
_COLOR = re.compile(
    rf"(?<!\w)({'|'.join(re.escape(name) for name in sorted(_LATIN, key=len, reverse=True))})(?!\w)|"
    rf"({'|'.join(name for name in NAMES if name not in _LATIN)})"
)


def colors(text: str) -> list[str]:
    """Colors of a normalized text, in English, each once.

    >>> colors("toner giallo / black on white")
    ['yellow', 'black', 'white']
    """
    found = (match[1] or match[2] for match in _COLOR.finditer(text))
    return list(dict.fromkeys(NAMES[name] for name in found))[:5]
