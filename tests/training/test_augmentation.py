"""Augmentation: offers as they might also have been."""

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.training.augmentation import augment, is_active
from afmrl.training.config import Augmentation
from conftest import save_image

TARGET = KeyAttributes.of({"color": "deep red", "size": "m"})


def several(offer, config, count=30):
    return [augment(offer, TARGET, config, (0, draw), batch_seeds=(0, draw // 10)) for draw in range(count)]


def test_nothing_is_changed_unless_asked_for(tmp_path):
    offer = Offer("1", "Lune dress, deep red, M", image=str(save_image(tmp_path / "a.png", 1)))
    assert not is_active(Augmentation()) and not is_active(Augmentation(smallest_crop=0.9))
    assert is_active(Augmentation(crop=0.1)) and is_active(Augmentation(mirror=True))
    (changed, image), *_ = several(offer, Augmentation(), 1)
    assert changed == offer and image is not None


def test_the_same_seeds_give_the_same(tmp_path):
    offer = Offer("1", "Lune dress, deep red, M", image=str(save_image(tmp_path / "a.png", 1)))
    config = Augmentation(crop=1.0, light=0.5, contrast=0.3, tint=0.2, rotate=0.5, blur=0.5, erase=0.5,
                          word_dropout=0.3, rename=0.5)  # fmt: skip
    first, again = several(offer, config), several(offer, config)
    for (one, left), (other, right) in zip(first, again, strict=True):
        assert one == other and np.array_equal(np.asarray(left), np.asarray(right))
    assert len({changed.title for changed, _ in first}) > 10
    assert len({image.size for _, image in first}) > 10


def test_words_of_the_target_are_hidden_where_an_image_shows_what_they_said(tmp_path):
    offer = Offer("1", "Lune dress, deep red, M", image=str(save_image(tmp_path / "a.png", 1)))
    config = Augmentation(hide_values=0.5)
    titles = [changed.title for changed, _ in several(offer, config, 200)]
    assert set(titles) == {offer.title, "Lune dress"}
    assert 70 < titles.count("Lune dress") < 130
    assert {changed.title for changed, _ in several(Offer("2", offer.title), config)} == {offer.title}


def test_a_name_is_renamed_alike_in_a_whole_batch_and_values_stay():
    titles = [changed.title for changed, _ in several(Offer("1", "lune dress deep red"), Augmentation(rename=1.0))]
    assert [len(set(titles[batch : batch + 10])) for batch in (0, 10, 20)] == [1, 1, 1]
    assert len(set(titles)) == 3
    assert all(title.endswith(" deep red") and not title.startswith("lune dress") for title in titles)
