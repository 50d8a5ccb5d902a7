"""A small file must not hold a core for a minute: what decoding would take is known before, and bounded."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from afmrl.data.images import open_header, open_image
from afmrl.errors import InputError


def encoded(form, size, mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


def with_scans(count, size):
    """A progressive JPEG whose last scan is there many times."""
    content = encoded("JPEG", size, mode="L", progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    return content[:last] + scan * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_scans(400, (4000, 4000)), "scans"),
        (encoded("JPEG2000", (5000, 5000)), "JPEG2000"),
        (b"P6" + b" " * 20_000_000 + b"1 1 255 abc", "not at its beginning"),
        (b"P5\n" + b"#\n" * 5_000_000 + b"1 1 255 a", "not at its beginning"),
        (b"P3 4000 4000 255 " + b"0 " * 100, "4000 × 4000"),
        (b"P1 4000 4000 " + b"0 " * 100, "4000 × 4000"),
    ],
    ids=["progressive JPEG", "JPEG 2000", "blanks", "comments", "plain pixmap", "plain bitmap"],
)
def test_it_is_refused_at_once(tmp_path, content, reason):
    started = time.monotonic()
    with pytest.raises(InputError, match=reason):
        open_header(content, "odd")
    (tmp_path / "odd.img").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        open_image(tmp_path / "odd.img")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {"progressive": True}), ("JPEG2000", {}), ("PPM", {}), ("BMP", {}), ("PNG", {}), ("WEBP", {})],
)
def test_ordinary_images_are_opened(tmp_path, form, options):
    (tmp_path / "a.img").write_bytes(encoded(form, (3000, 2000), **options))
    assert open_image(tmp_path / "a.img", max_side=None).size == (3000, 2000)


def test_an_ordinary_plain_pixmap_is_opened(tmp_path):
    (tmp_path / "a.ppm").write_text("P3\n# by hand\n2 1\n255\n255 0 0  0 0 255\n")
    assert np.asarray(open_image(tmp_path / "a.ppm")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
