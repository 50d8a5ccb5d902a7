"""Damaged and hostile files of every kind that is read: an answer or one line, never a traceback, in bounded time.

Inputs are drawn by a seed, so that a failure can be drawn again. AFMRL_FUZZ=100 draws a hundred times as many.
"""

import io
import json
import os
import random
import tarfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.attributes.schema import AttributeSchema
from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.written_attributes import read_key_attributes
from afmrl.data.catalog import read_catalog, read_report
from afmrl.data.images import open_image
from afmrl.data.pairs import read_pair_rows
from afmrl.errors import InputError, shown_address
from afmrl.evaluation.qrels import read_qrels
from afmrl.evaluation.records import read_query_records
from afmrl.generator.answers import parse_answer
from afmrl.index.address import open_index
from afmrl.retrieval.hits import read_hits
from afmrl.training.recipe_files import read_recipe

TIMES = int(os.environ.get("AFMRL_FUZZ", "1"))
SECONDS = 10.0
"""Of a core that no call may take."""
ODD = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\\", b"{", b"}", b"[", b"]",
    b"null", b"NaN", b"-1", b"1e999", b"9" * 400, b"\\ud83d", "\u2028".encode(), "\u202e".encode(), b"\x1b[2J", b"[/]x",
    b"<![CDATA[", b"<!ENTITY a 'b'>", b"&a;", b"&#0;", b"&#x110000;", b"../../etc/passwd", b"/dev/zero", b"\x85",
    b"=cmd|' /C calc'!A0", b"[" * 300, b'{"a":' * 300, b"*a", b"&a ", b"!!python/name:os.system", b"2020-99-99",
    b"http://[", b"file:///etc/passwd", b"%00", b"\xf0\x9f\x98", b"a" * 70_000, b": ", b"- ", b"? ", b"| ", b"> ",
]  # fmt: skip
ROWS = [
    {"id": str(n), "title": f"Maison dress {n}, 6 x 330 ml", "brand": "Maison", "gtin": "4006381333931",
     "image": "a.png", "attributes": {"size": "m", "color": ["red"]}, "category": "dress > silk",
     "product_id": str(n % 3), "price": 9.99}
    for n in range(6)
]  # fmt: skip


def mutated(content, draw):
    """The content with one to four faults: flips, cuts, doubled or swapped pieces, odd bytes put in."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place, other = sorted((draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)))
        kind = draw.randrange(6)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del content[place : min(other, place + draw.choice((1, 3, 40, len(content) + 1)))]
        elif kind == 2:
            content[place:place] = content[place : min(other, place + 2_000)]
        elif kind == 3:
            del content[place:]
        else:
            content[place:place] = draw.choice(ODD) * draw.choice((1, 1, 1, 3))
    return bytes(content)


def encoded(form, **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def archive(kind):
    file = io.BytesIO()
    png = encoded("PNG")
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("a.png", png)
    else:
        with tarfile.open(fileobj=file, mode="w") as packed:
            info = tarfile.TarInfo("a.png")
            info.size = len(png)
            packed.addfile(info, io.BytesIO(png))
    return file.getvalue()


def table(delimiter, encoding):
    lines = [delimiter.join(("sku", "Name", "EAN", "image_link", "Farbe"))]
    lines += [delimiter.join((str(n), f'"Kleid {n}"', "4006381333931", "a.png", "rot")) for n in range(6)]
    return "\n".join(lines).encode(encoding)


def parquet():
    import pyarrow as pa
    import pyarrow.parquet

    file = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


FEED = b"""<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel>
<item><g:id>1</g:id><title>Dress &amp; more</title><g:gtin>4006381333931</g:gtin>
<g:image_link>a.png</g:image_link></item>
<item><g:id>2</g:id><title><![CDATA[Dress]]></title><g:color>red</g:color></item></channel></rss>"""
LINKED = {
    "@context": "https://schema.org",
    "@graph": [{"@type": "Product", "sku": "1", "name": "Dress", "image": ["a.png"]}],
}
SHOPIFY = b"""Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Variant SKU,Variant Barcode,Image Src
a,Dress,<p>x</p>,Maison,Size,M,s1,4006381333931,a.png
a,,,,,L,s2,,
"""
WOO = b"""ID,Type,SKU,Name,Parent,Images,Attribute 1 name,Attribute 1 value(s)
1,variable,p,Dress,,a.png,Size,"M, L"
2,variation,v,Dress,p,,Size,M
"""
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
PAIRS = b'{"left": "0", "right": "3", "label": 1}\n{"left": "0", "right": "1", "label": 0}\n'
RECIPE = b"catalog:\n  path: offers.jsonl\nagcl:\n  max_steps: 3\n  lr: 1e-4\nsft: &a\n  epochs: 1\nrar: *a\n"
SCHEMA = b"dress:\n- color\n- key: size\n  values: [s, m, l]\n'*':\n- brand\n"


def all_of(iterator):
    return list(iterator)


def catalog(path):
    read_report(path)
    return read_catalog(path, max_bad=1.0)


def read_index_pointer(path):
    folder = path.parent / "index"
    folder.mkdir(exist_ok=True)
    path.replace(folder / "index.json")
    with open_index(str(folder)) as index:
        return len(index)


POINTER = json.dumps(
    {
        "format": "afmrl-index",
        "version": 1,
        "dimension": 4,
        "settings": {"dtype": "f16", "exact_below": 3},
        "segments": [],
    }
).encode()
KINDS = {
    "lines.jsonl": (LINES, catalog),
    "table.csv": (table(",", "utf-8"), catalog),
    "semicolons.csv": (table(";", "cp1252"), catalog),
    "tabs.tsv": (table("\t", "utf-16"), catalog),
    "offers.parquet": (parquet(), catalog),
    "feed.xml": (FEED, catalog),
    "linked.json": (json.dumps(LINKED).encode(), catalog),
    "shopify.csv": (SHOPIFY, catalog),
    "woo.csv": (WOO, catalog),
    "pairs.jsonl": (PAIRS, lambda path: all_of(read_pair_rows(path))),
    "pairs.csv": (b"left,right,label\n0,3,1\n0,1,0\n", lambda path: all_of(read_pair_rows(path))),
    "qrels.tsv": (b"0\t3\t1\n1\t4\t2\n", lambda path: read_qrels(path, ["0", "1"], ["3", "4"])),
    "recipe.yaml": (RECIPE, read_recipe),
    "schema.yaml": (SCHEMA, AttributeSchema.load),
    "schema.json": (b'{"dress": ["color", {"key": "size", "values": ["s"]}]}', AttributeSchema.load),
    "written.jsonl": (
        b'{"id": "0", "completion": "color: red"}\n{"id": "1", "key_attributes": {"a": "b"}}\n',
        read_key_attributes,
    ),
    "hits.jsonl": (b'{"query": "0", "hits": [{"id": "3", "score": 0.5}]}\n', lambda path: all_of(read_hits(path))),
    "queries.jsonl": (
        b'{"task": "fine", "query": "0", "cluster": "0", "rank": 1, "num_relevant": 1, "metrics": {"mrr": 1.0}, '
        b'"slices": {}, "first_hit": "3"}\n',
        read_query_records,
    ),
    "index.json": (POINTER, read_index_pointer),
    "a.zip": (archive("zip"), lambda path: ImageLoader().load(f"{path}!/a.png")),
    "a.tar": (archive("tar"), lambda path: ImageLoader().load(f"{path}!/a.png")),
    **{
        f"image.{form.lower()}": (encoded(form, **options), open_image)
        for form, options in (
            ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}),
            ("PPM", {}), ("ICO", {}), ("TGA", {}), ("JPEG2000", {}),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_answered_in_one_line(tmp_path, name):
    content, read = KINDS[name]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = tmp_path / name
    path.write_bytes(content)
    read(path)  # whole, it is read
    for seed in range((40 if name.startswith("image") else 80) * TIMES):
        path.write_bytes(mutated(content, random.Random(f"{name} {seed}")))
        started = time.process_time()
        try:
            read(path)
        except InputError as error:
            said = str(error)
            assert said.strip(), seed
            assert "\x1b" not in said, seed
            said.encode()
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < SECONDS, seed


def test_answers_of_generators(tmp_path):
    samples = [b"color: red; size: m", b'{"color": "red", "size": ["s"]}', b'```json\n{"a": {"b": 1}}\n```', b"(a: b)"]
    for seed in range(2_000 * TIMES):
        draw = random.Random(seed)
        text = mutated(draw.choice(samples), draw).decode("utf-8", "replace")
        for read in (KeyAttributes.parse, parse_answer):
            try:
                found = read(text)
            except InvalidCompletion:
                continue
            assert all(isinstance(key, str) and isinstance(value, str) for key, value in found), seed
            assert KeyAttributes.parse(str(found.within_limits())) is not None, seed


def test_addresses():
    samples = [
        b"postgresql://u:s3cr3t@db:5432/x",
        b"openai:http://u:s3cr3t@h:1/v1#m",
        b"qdrant:http://h/c",
        b"https://u:s3cr3t@h/a",
    ]
    for seed in range(2_000 * TIMES):
        draw = random.Random(seed)
        text = mutated(draw.choice(samples), draw).decode("utf-8", "replace")
        shown_address(text)
        InputError(text)
