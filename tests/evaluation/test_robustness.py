"""Robustness: what a perturbation changes, that it is the same again, and that its cost is measured on what changed."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.evaluation.robustness import PERTURBATIONS, drop_words, perturbed, robustness_score
from conftest import save_image

TITLE = "deep red V-neck A-line silk dress, long sleeves, size 38"


@pytest.fixture
def offers(tmp_path: Path) -> list[Offer]:
    images = [str(save_image(tmp_path / f"{number}.png", number, (60, 40))) for number in range(3)]
    return [
        Offer("both", title=TITLE, description="soft", image=images[0], attributes={"color": "red"}),
        Offer("image", image=images[1]),
        Offer("title", title=TITLE),
        Offer("word", title="hat", image=images[2]),
    ]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("words-dropped", ["both", "title"]),
        ("blurred", ["both", "image", "word"]),
        ("cropped", ["both", "image", "word"]),
        ("recompressed", ["both", "image", "word"]),
        ("no-title", ["both", "word"]),
        ("no-image", ["both", "word"]),
    ],
)
def test_only_what_can_be_changed_is(offers: list[Offer], tmp_path: Path, name: str, changed: list[str]) -> None:
    after = perturbed(offers, name, folder=tmp_path / "out")
    assert [a.id for a, b in zip(after, offers, strict=True) if a is not b] == changed
    assert [a.id for a in after] == [b.id for b in offers]
    for old, new in zip(offers, after, strict=True):
        assert new.title or new.image  # nothing is left with nothing
        assert new.attributes == old.attributes
        if name == "words-dropped":
            assert new.image == old.image and set(new.title.split()) <= set(old.title.split())
        elif name == "no-title":
            assert new.image == old.image and (new is old or (new.title, new.description) == ("", ""))
        else:
            assert new.title == old.title
    assert set(PERTURBATIONS) == {"words-dropped", "blurred", "cropped", "recompressed", "no-title", "no-image"}


def test_the_same_seed_changes_the_same_whatever_stands_beside(offers: list[Offer], tmp_path: Path) -> None:
    for name in PERTURBATIONS:
        first = perturbed(offers, name, seed=1, folder=tmp_path / "first")
        again = perturbed(offers[::-1], name, seed=1, folder=tmp_path / "again")[::-1]
        for one, other in zip(first, again, strict=True):
            assert one.title == other.title
            assert bool(one.image) == bool(other.image)
            if one.image:
                assert Path(one.image).read_bytes() == Path(other.image).read_bytes()
    titles = {perturbed(offers, "words-dropped", seed=seed, folder=tmp_path)[0].title for seed in range(5)}
    assert len(titles) > 1


def test_thirty_per_cent_of_the_words_go() -> None:
    words = [f"w{number}" for number in range(10)]
    for seed in range(20):
        left = drop_words(" ".join(words), random.Random(seed)).split()
        assert len(left) == 7 and left == [word for word in words if word in left]  # in their order
    assert drop_words("hat", random.Random(0)) == "hat" and drop_words("", random.Random(0)) == ""
    assert len(drop_words("red hat", random.Random(0)).split()) == 1
    # a script without spaces loses characters, and the words of another beside it stay whole
    left = drop_words("红色真丝连衣裙长袖V领 Chanel", random.Random(0))
    assert len(left.replace("V", "").replace(" Chanel", "").replace("Chanel", "")) in (6, 7, 8)
    assert "Chane" not in left.replace("Chanel", "")


def test_images_lose_what_they_should(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "p.png"
    Image.fromarray(rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)).save(path)
    offer, before = Offer("1", image=str(path)), np.asarray(open_image(path), dtype=float)

    def after(name: str, offer_id: str = "1") -> np.ndarray:
        (new,) = perturbed([Offer(offer_id, image=offer.image)], name, folder=tmp_path / "out")
        return np.asarray(open_image(new.image), dtype=float)

    assert after("blurred").shape == before.shape
    assert after("blurred").std() < 0.3 * before.std()  # noise is all detail
    assert after("recompressed").shape == before.shape
    error = np.abs(after("recompressed") - before).mean()
    Image.fromarray(before.astype(np.uint8)).save(tmp_path / "best.jpg", quality=95, subsampling=0)
    assert error > 5 * np.abs(np.asarray(Image.open(tmp_path / "best.jpg"), dtype=float) - before).mean()
    cropped = after("cropped")
    assert cropped.shape == (70, 140, 3)
    places = [
        np.abs(before[top : top + 70, left : left + 140] - cropped).mean() for top in range(31) for left in range(61)
    ]
    assert min(places) < 0.2 * float(np.median(places))  # it is a window of the image, changed by its JPEG alone
    assert not np.array_equal(cropped, after("cropped", "2"))  # every offer has its own window


def test_a_tall_narrow_image_survives(tmp_path: Path) -> None:
    path = save_image(tmp_path / "line.png", size=(1, 50))
    for name in ("blurred", "cropped", "recompressed"):
        (new,) = perturbed([Offer("1", image=str(path))], name, folder=tmp_path / "out")
        assert min(open_image(new.image).size) == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="perturbation 'blured': one of words-dropped, blurred"):
        perturbed([], "blured", folder=tmp_path)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"image .*bad.png"):
        perturbed([Offer("1", image=str(tmp_path / "bad.png"))], "blurred", folder=tmp_path)
    with pytest.raises(InputError, match="robustness blurred"):
        robustness_score("blurred", {"mrr": np.zeros(3)}, {"mrr": np.zeros(2)}, [True] * 3)


def test_the_cost_is_that_of_the_changed_queries() -> None:
    rng = np.random.default_rng(0)
    plain = {"recall@1": (rng.random(100) < 0.7).astype(float), "mrr": rng.random(100), "extra": np.zeros(100)}
    changed = [row % 2 == 0 for row in range(100)]
    worse = {"mrr": plain["mrr"] - 0.1 * np.array(changed), "recall@1": plain["recall@1"].copy()}
    score = robustness_score("blurred", plain, worse, changed, [f"f{row // 4}" for row in range(100)])
    assert score is not None
    assert (score.num_changed, list(score.plain)) == (50, ["recall@1", "mrr"])
    assert score.plain["mrr"].mean == pytest.approx(plain["mrr"][::2].mean())
    assert score.perturbed["mrr"].mean == pytest.approx(plain["mrr"][::2].mean() - 0.1)
    test = score.difference["mrr"]
    assert test.difference.mean == pytest.approx(-0.1) and test.difference.high < -0.09 and test.p_value < 0.01
    assert score.difference["recall@1"].p_value == 1.0
    row = json.loads(json.dumps(score.as_json(), allow_nan=False))
    assert row["difference"]["mrr"] == [-0.1, -0.1, -0.1] and row["num_changed"] == 50
    assert row["description"] == PERTURBATIONS["blurred"]
    assert robustness_score("blurred", plain, worse, [False] * 100) is None
