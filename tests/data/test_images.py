import tracemalloc

import numpy as np
import pytest
from PIL import Image

from afmrl.data.images import MAX_PIXELS, open_header, open_image, verify_image
from afmrl.errors import InputError
from conftest import png_claiming, save_image


@pytest.mark.parametrize("look", [verify_image, open_image])
def test_a_missing_image_is_named(tmp_path, look):
    with pytest.raises(InputError, match=r"nothing\.jpg: no such file"):
        look(tmp_path / "nothing.jpg")


@pytest.mark.parametrize("look", [verify_image, open_image])
@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"]
)
def test_a_file_that_is_no_image_is_named(tmp_path, look, content):
    path = tmp_path / "page.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"page\.jpg: not an image that can be read"):
        look(path)


@pytest.mark.parametrize("look", [verify_image, open_image])
def test_a_folder_is_no_image(tmp_path, look):
    with pytest.raises(InputError, match="not an image"):
        look(tmp_path)


@pytest.mark.parametrize("look", [verify_image, open_image])
@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 30_000), (100_000_000, 1), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_from_its_header(tmp_path, look, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(*size))
    verify_image(save_image(tmp_path / "warm.png"))  # Pillow's own imports are not counted
    tracemalloc.start()
    with pytest.raises(InputError, match=r"bomb\.png: .*64,000,000"):
        look(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_bound_itself_is_allowed(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_claiming(MAX_PIXELS // 1000, 1000))
    open_header(path).close()
    path.write_bytes(png_claiming(MAX_PIXELS // 1000 + 1, 1000))
    with pytest.raises(InputError, match="at most 64,000,000"):
        verify_image(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
def test_a_image_that_is_cut_off_or_damaged_is_named(tmp_path, ending):
    whole = save_image(tmp_path / f"whole.{ending}", size=(64, 64)).read_bytes()
    path = tmp_path / f"torn.{ending}"
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        torn = bytearray(whole[: int(rng.integers(len(whole) // 4, len(whole) - 4))])
        for place in rng.integers(0, len(torn), 6):
            torn[place] = rng.integers(256)
        path.write_bytes(torn)
        try:
            assert open_image(path).mode == "RGB"  # some damage only changes pixels
        except InputError as error:
            outcomes.add("named")
            assert f"torn.{ending}" in str(error)
    assert outcomes


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
def test_a_download_that_broke_off_is_seen_without_decoding_sound_files(tmp_path, ending, monkeypatch):
    whole = save_image(tmp_path / f"whole.{ending}", size=(64, 64))
    (tmp_path / f"torn.{ending}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"torn\.{ending}: (damaged|not an image)"):
        verify_image(tmp_path / f"torn.{ending}")
    verify_image(whole)
    if ending in ("png", "jpg", "gif", "webp"):
        monkeypatch.setattr("afmrl.data.images.decode", None)
        verify_image(whole)


def test_transparent_parts_become_white_and_every_mode_rgb(tmp_path):
    path = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(path)
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("L", "LA", "P", "CMYK", "I;16", "1"):
        path = tmp_path / f"{mode.replace(';', '')}.tiff"
        Image.new(mode, (5, 3)).save(path)
        image = open_image(path)
        assert (image.mode, image.size) == ("RGB", (5, 3))


def test_a_image_is_turned_upright(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.new("RGB", (30, 10), "red").save(path, exif=exif)
    assert open_image(path).size == (10, 30)


def test_large_images_are_scaled_down_and_small_ones_left(tmp_path):
    path = save_image(tmp_path / "wide.jpg", size=(500, 100))
    assert open_image(path, max_side=50).size == (50, 10)
    assert open_image(path).size == (500, 100)
    assert open_image(path, max_side=None).size == (500, 100)


@pytest.mark.parametrize(
    ("mode", "ending", "scale"),
    [
        ("uint16", "png", 257), ("uint16", "tiff", 257), ("uint16", "pgm", 257), (">u2", "tiff", 257),
        ("int32", "tiff", 257), ("int32", "tiff", 1), ("float32", "tiff", 1 / 255), ("float32", "tiff", 1),
    ],
)  # fmt: skip
def test_gray_of_more_than_8_bits_is_scaled(tmp_path, mode, ending, scale):
    ramp = np.tile(np.arange(256), (8, 1))
    path = tmp_path / f"ramp.{ending}"
    if ending == "pgm":
        path.write_bytes(b"P5 256 8 65535\n" + (ramp * scale).astype(">u2").tobytes())
    else:
        Image.fromarray((ramp * scale).astype(mode)).save(path)
    for channel in np.moveaxis(np.asarray(open_image(path)), -1, 0):
        assert np.abs(channel.astype(int) - ramp).max() <= 1
