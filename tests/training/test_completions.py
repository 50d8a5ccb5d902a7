"""Completions within a run are kept chunk by chunk."""

import json

import pytest

from afmrl.data.offer import Offer
from afmrl.generator.engines.base import Completion
from afmrl.training.completions import CHUNK_BATCHES, PART, forget_completions, kept_completions

OFFERS = [Offer(f"o{n}", f"dress {n}") for n in range(CHUNK_BATCHES * 2 * 3 + 5)]  # three chunks of two, and some


class Generator:
    """Answers with the offer's id; stops with an error at the call that it is told."""

    def __init__(self, stop_at=None):
        self.calls, self.seeds, self.stop_at = [], [], stop_at

    def generate(self, offers, *, max_new_tokens, batch_size, seed, progress):
        self.seeds.append(seed)
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append([offer.id for offer in offers])
        return [[Completion(f"note: {offer.id} 深红", 3, offer.id != "o1", "refused" if offer.id == "o2" else "")]
                for offer in offers]  # fmt: skip


def made(generator, folder):
    found = kept_completions(generator, OFFERS, folder, max_new_tokens=9, batch_size=2, seed=40)
    return [completion for (completion,) in found]


@pytest.mark.parametrize("torn", ["", '{"text": "half', "\n", '{"text": "x", "num_tokens": 3}\n'])
def test_what_was_written_is_not_written_again(tmp_path, torn):
    whole = Generator()
    (tmp_path / "whole").mkdir()
    expected = made(whole, tmp_path / "whole")
    assert [c.text for c in expected] == [f"note: {offer.id} 深红" for offer in OFFERS]
    assert (expected[1].ended, expected[2].failure) == (False, "refused")
    with pytest.raises(KeyboardInterrupt):
        made(Generator(stop_at=2), tmp_path)
    with open(tmp_path / PART, "a", encoding="utf-8") as file:
        file.write(torn)
    again = Generator()
    assert made(again, tmp_path) == expected
    assert again.calls == whole.calls[2:]  # chunks fall as in a run that nothing interrupts
    assert whole.seeds == [40, 41, 42, 43] and again.seeds == [42, 43]
    assert (tmp_path / PART).read_bytes() == (tmp_path / "whole" / PART).read_bytes()


def test_a_part_of_a_chunk_is_made_again_as_a_whole(tmp_path):
    expected = made(Generator(), tmp_path)
    lines = (tmp_path / PART).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / PART).write_text("".join(lines[: CHUNK_BATCHES * 2 + 7]), encoding="utf-8")
    again = Generator()
    assert made(again, tmp_path) == expected and again.calls[0][0] == f"o{CHUNK_BATCHES * 2}"
    assert json.loads(lines[0])[0]["text"] == "note: o0 深红"
    # torn behind the last character of a chunk: its line break is missing
    (tmp_path / PART).write_text("".join(lines[: CHUNK_BATCHES * 2]).rstrip("\n"), encoding="utf-8")
    again = Generator()
    assert made(again, tmp_path) == expected and again.calls[0][0] == "o0"
    assert (tmp_path / PART).read_text(encoding="utf-8") == "".join(lines)
    forget_completions(tmp_path)
    forget_completions(tmp_path)
    assert not (tmp_path / PART).exists()
