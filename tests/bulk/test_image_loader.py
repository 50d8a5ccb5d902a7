import gc
import io
import os
import struct
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from afmrl.bulk.images import archives
from afmrl.bulk.images.archives import Archives, split_member
from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.images.read_ahead import ReadAhead
from afmrl.bulk.images.resizing import Resizing
from afmrl.data.images import MAX_SIDE, bounded_size, decode, open_header, open_image, upright_size
from afmrl.errors import InputError
from conftest import png_claiming, save_image


def packed(folder, files, kind="zip"):
    """An archive of name: content."""
    path = folder / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def test_a_local_image_is_what_open_image_gives(tmp_path):
    path = save_image(tmp_path / "wide.jpg", size=(500, 100))
    loader = ImageLoader()
    assert list(loader.load(str(path)).getdata()) == list(open_image(path).getdata())
    assert loader.load(str(path), max_side=50).size == (50, 10)
    large = save_image(tmp_path / "large.png", size=(MAX_SIDE + 100, 20))
    assert loader.load(str(large)).width == MAX_SIDE


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"<html>", "not an image"), (b"\x89PNG\r\n\x1a\n", "not an image"), (b"", "not a")],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    path = tmp_path / "page.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"page\.jpg: {reason}"):
        ImageLoader().load(str(path))


def test_odd_references_are_refused(tmp_path):
    for reference in (str(tmp_path), "nul\0byte.jpg", "https://shop.example/a.jpg", "file:///etc/passwd"):
        with pytest.raises(InputError):
            ImageLoader().load(reference)


def test_a_bomb_is_refused_in_an_archive_too(tmp_path):
    path = packed(tmp_path, {"bomb.png": png_claiming(30_000, 30_000)})
    with pytest.raises(InputError, match="64,000,000"):
        ImageLoader().load(f"{path}!/bomb.png")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_are_read_by_their_names(tmp_path, kind):
    files = {f"shoes/{n}.png": save_image(tmp_path / f"{n}.png", seed=n).read_bytes() for n in range(5)}
    path = packed(tmp_path, files | {"./dot/a.png": files["shoes/0.png"], "é ü!/1.png": files["shoes/1.png"]}, kind)
    loader = ImageLoader()
    for number in range(5):
        ours = loader.load(f"{path}!/shoes/{number}.png")
        assert np.array_equal(ours, open_image(tmp_path / f"{number}.png"))
    assert loader.read(f"{path}!/dot/a.png") == loader.read(f"{path}!/./dot/a.png") == files["shoes/0.png"]
    assert loader.read(f"{path}!/é ü!/1.png") == files["shoes/1.png"]
    for member in ("shoes", "shoes/9.png", "../0.png", "/etc/passwd", "", "SHOES/1.png"):
        with pytest.raises(InputError, match="no such file"):
            loader.read(f"{path}!/{member}")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_many_threads_read_one_archive(tmp_path, kind):
    rng = np.random.default_rng(0)
    files = {f"{n}.bin": rng.bytes(20_000 + n) for n in range(40)}
    path = packed(tmp_path, files, kind)
    loader = ImageLoader()
    with ThreadPoolExecutor(8) as threads:
        for name, content in threads.map(lambda n: (n, loader.read(f"{path}!/{n}")), list(files) * 5):
            assert content == files[name]


def test_a_file_whose_name_looks_like_a_member_is_a_file(tmp_path):
    path = save_image(tmp_path / "photos.zip!" / "a.png")
    assert ImageLoader().load(str(path)).size == (24, 24)
    assert split_member("/a/b.ZIP!/c.jpg") == ("/a/b.ZIP", "c.jpg")
    assert split_member("/a/b.tar.gz!/c.jpg") is None


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_is_too_large_is_not_unpacked(tmp_path, kind):
    path = packed(tmp_path, {"large.png": b"\0" * 5_000, "fits.png": b"\0" * 4_000}, kind)
    reader = Archives(max_bytes=4_000)
    assert len(reader.read(str(path), "fits.png")) == 4_000
    with pytest.raises(InputError, match="5,000 bytes, at most 4,000"):
        reader.read(str(path), "large.png")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    path = packed(tmp_path, {"bomb.png": b"\0" * 5_000_000})
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):  # the size unpacked, in both headers
        start = content.index(signature) + place
        content[start : start + 4] = struct.pack("<I", 100)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read from the archive"):
        ImageLoader().read(f"{path}!/bomb.png")


def test_links_in_a_tar_lead_nowhere(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(f"link{kind.decode()}.png")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
    for member in ("link1.png", "link2.png"):
        with pytest.raises(InputError, match="no such file"):
            ImageLoader().read(f"{path}!/{member}")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_that_cannot_be_read_are_named(tmp_path, kind):
    loader = ImageLoader()
    with pytest.raises(InputError, match="no such file"):
        loader.read(f"{tmp_path}/none.{kind}!/a.png")
    torn = tmp_path / f"torn.{kind}"
    torn.write_bytes(b"this is no archive" * 100)
    with pytest.raises(InputError, match=r"torn\.(zip|tar): cannot be read as"):
        loader.read(f"{torn}!/a.png")
    path = packed(tmp_path, {"a.png": os.urandom(50_000)}, kind)
    content = bytearray(path.read_bytes())
    if kind == "zip":
        content[20_000] ^= 255  # the checksum finds it
    else:
        content = content[:30_000]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"photos\.(zip|tar)"):
        loader.read(f"{path}!/a.png")


def test_a_compressed_tar_is_refused(tmp_path):
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(save_image(tmp_path / "a.png"), "a.png")
    with pytest.raises(InputError, match="uncompressed"):
        ImageLoader().read(f"{path}!/a.png")


def test_handles_do_not_pile_up(tmp_path, image):
    def num_open():
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    gc.collect()  # what other tests left open closes now, and not in between
    reader, before = Archives(), num_open()
    for number in range(archives.KEPT_OPEN + 30):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = packed(folder, {"a.png": image.read_bytes()}, ("zip", "tar")[number % 2])
        assert reader.read(str(path), "a.png") == image.read_bytes()
    gc.collect()
    assert num_open() - before <= archives.KEPT_OPEN
    del reader
    gc.collect()
    assert num_open() == before


# scaled decoding


def test_a_scaled_jpeg_has_what_is_asked_for_and_no_more(tmp_path):
    path = save_image(tmp_path / "large.jpg", size=(1600, 800))
    for least, size in {(200, 100): (200, 100), (201, 100): (400, 200), (800, 100): (800, 400)}.items():
        with open_header(path) as image:
            assert decode(image, path, least=least).size == size
    with open_header(path) as image:
        assert decode(image, path, least=(1601, 10)).size == (1600, 800)
    png = save_image(tmp_path / "large.png", size=(1600, 800))
    with open_header(png) as image:
        assert decode(image, png, least=(10, 10)).size == (1600, 800)


def test_the_size_is_that_of_the_upright_image(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 800), "red").save(path, exif=exif)
    with open_header(path) as image:
        assert upright_size(image) == (800, 1600)
        assert decode(image, path, least=(150, 400)).size == (200, 400)  # taken for (400, 150) of the file
    assert bounded_size((800, 1600), 400) == (200, 400)


def test_memory_is_asked_for_after_the_scaling(tmp_path):
    path = save_image(tmp_path / "large.jpg", size=(1600, 800))
    asked = []
    for least in (None, (200, 100)):
        with open_header(path) as image:
            decode(image, path, least=least, admit=asked.append)
    assert asked[0] == 64 * asked[1] > 1600 * 800 * 4


# the processor's resize


@pytest.fixture(scope="module")
def processor(tiny_model):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(tiny_model)


def pixels(processor, image):
    return processor.image_processor(images=[image], return_tensors="np")


@pytest.mark.parametrize("size", [(300, 200), (40, 30), (1000, 60), (84, 84), (57, 2000), (56, 28)])
def test_resized_ahead_the_processor_sees_the_same(processor, tmp_path, size):
    resizing = Resizing.of(processor)
    image = open_image(save_image(tmp_path / "a.png", seed=size[0], size=size))
    ahead = resizing.resize(image, size)
    theirs, ours = pixels(processor, image), pixels(processor, ahead)
    assert np.array_equal(theirs["pixel_values"], ours["pixel_values"])
    assert np.array_equal(theirs["image_grid_thw"], ours["image_grid_thw"])
    assert resizing.num_tokens(ahead.size) == theirs["image_grid_thw"].prod() // 4


def test_other_processors_resizes_are_known_or_left_alone():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    clip, vit = CLIPImageProcessorPil(), ViTImageProcessorPil()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 333, 3)).astype(np.uint8))
    for one in (clip, vit):
        resizing = Resizing.of(one)
        small = resizing.resize(image, image.size)
        assert small.size != image.size
        assert np.array_equal(one([image])["pixel_values"], one([small])["pixel_values"])
    vit.resample = 0
    assert Resizing.of(vit).resize(image, image.size) != small  # another filter is followed

    class Odd(ViTImageProcessorPil):
        def resize(self, image, size, resample, **options):
            return super().resize(image[:, ::2], size, resample, **options)

    assert Resizing.of(Odd()) is None  # found out by trying
    assert Resizing.of(object()) is None


# reading ahead


class Counting(ImageLoader):
    def __init__(self):
        super().__init__()
        self.read_names, self.hold = [], threading.Event()
        self.hold.set()

    def read(self, reference):
        self.hold.wait(5)
        self.read_names.append(reference)
        return super().read(reference)


def test_an_image_is_read_once_and_its_copies_are_decoded_once(tmp_path, monkeypatch):
    from afmrl.bulk.images import read_ahead

    one, other = save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png", seed=1)
    copy = tmp_path / "copy.png"
    copy.write_bytes(one.read_bytes())
    decoded = []
    monkeypatch.setattr(read_ahead, "decode", lambda image, name, **k: decoded.append(name) or decode(image, name, **k))
    loader = Counting()
    reader = ReadAhead(loader, workers=3)
    asked = [reader.ask(str(path)) for path in (one, copy, one, other, copy, one)]
    ready = [reader.wait(image) for image in asked]
    assert sorted(loader.read_names) == sorted(map(str, (one, copy, other)))
    assert len(decoded) == 2
    assert ready[0] is ready[1] is ready[2] is ready[4] is ready[5] is not ready[3]
    for image in asked:
        reader.release(image)
    reader.close()


def test_an_unreadable_image_is_said_again_and_again(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no")
    copy = tmp_path / "b.png"
    copy.write_bytes(b"no")
    reader = ReadAhead(ImageLoader(), workers=2)
    for reference in (path, copy, path):
        with pytest.raises(InputError, match=reference.name):
            reader.wait(reader.ask(str(reference)))
    reader.close()


def test_bytes_are_bounded_and_all_are_given_back(tmp_path):
    paths = [save_image(tmp_path / f"{n}.png", seed=n, size=(100, 100)) for n in range(60)]
    limit = 1_000_000  # about eleven being decoded, or two dozen that wait
    reader = ReadAhead(ImageLoader(), workers=6, memory_bytes=limit)
    asked = [reader.ask(str(path)) for path in paths]
    for image, path in zip(asked, paths, strict=True):
        assert np.array_equal(reader.wait(image).image, open_image(path))
        assert reader.used_bytes <= limit + 8 * 100 * 100 + 100_000
        reader.release(image)
    assert limit / 2 < reader.most_bytes <= limit + 8 * 100 * 100 + 50_000
    # what is remembered is all that is left
    assert 0 < reader.used_bytes == reader.remembered_bytes <= limit / 4 + 4 * 100 * 100 + 2_000
    reader.close()


def test_an_image_larger_than_the_memory_still_comes(tmp_path):
    large, small = (save_image(tmp_path / f"{n}.png", size=(n, n)) for n in (300, 30))
    reader = ReadAhead(ImageLoader(), workers=4, memory_bytes=50_000)
    asked = [reader.ask(str(path)) for path in (small, large)]
    assert [reader.wait(image).image.size for image in asked] == [(30, 30), (300, 300)]
    reader.close()


def test_a_copy_waits_for_no_image_that_waits_for_it(tmp_path):
    # the later of two copies may come to be decoded first, and then be the one without memory
    filler = save_image(tmp_path / "filler.png", seed=5, size=(120, 120))
    first = save_image(tmp_path / "first.png", size=(100, 100))
    copy = tmp_path / "copy.png"
    copy.write_bytes(first.read_bytes())
    turn = threading.Event()

    class Turned(ImageLoader):
        def read(self, reference):
            if reference == str(first):
                turn.wait(10)
            return super().read(reference)

    reader = ReadAhead(Turned(), workers=3, memory_bytes=150_000)
    held = reader.ask(str(filler))
    reader.wait(held)
    earlier, later = reader.ask(str(first)), reader.ask(str(copy))
    threading.Timer(0.3, turn.set).start()
    done = threading.Thread(target=reader.wait, args=(earlier,), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    assert reader.wait(earlier) is reader.wait(later)
    reader.close()


def test_stopping_lets_go_of_threads_that_wait_for_memory(tmp_path):
    paths = [save_image(tmp_path / f"{n}.png", seed=n, size=(200, 200)) for n in range(8)]
    reader = ReadAhead(ImageLoader(), workers=4, memory_bytes=400_000)
    for path in paths:
        reader.ask(str(path))
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]
