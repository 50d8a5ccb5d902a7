"""A recipe or a schema of a few lines that stands for billions, or is deep, is refused at once and in one line."""

import time

import pytest

from afmrl.attributes.schema import AttributeSchema
from afmrl.data.yaml_text import parse_yaml
from afmrl.errors import InputError
from afmrl.training.recipe_files import read_recipe

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HOSTILE = {
    "bomb": BOMB,
    "loop": "a: &a [*a]",
    "loop of maps": "a: &a {b: *a}",
    "merge bomb": BOMB + "m: {<<: *a11}",
    "deep list": "a: " + "[" * 5000 + "]" * 5000,
    "deep map": "".join(" " * n + "a:\n" for n in range(900)),
    "deep within bounds of recursion": "a: " + "[" * 100 + "]" * 100,
    "tag": "a: !!python/object/apply:os.system ['true']",
    "unknown alias": "a: *b",
    "large": "a: " + "b" * 2_000_000,
    "odd number": "a: 0x",
    "long number": "a: " + "9" * 10_000,
    "key of a list": "? [a, b]\n: c",
    "binary": "a: !!binary '='",
    "two documents": "a: 1\n---\nb: 2",
    "control": "a: \x01",
    "half": "a: \ud800",
    "set": "!!set {a, b}",
    "pairs": "!!omap [a: 1, b]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_one_line(tmp_path, name, call):
    path = tmp_path / "hostile.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8", errors="surrogatepass")
    started = time.monotonic()
    for read in (AttributeSchema.load, read_recipe):
        try:
            read(path)
        except InputError as error:
            assert "hostile.yaml" in str(error)
            assert "\n" not in str(error)
    code, _, err = call("run", path, "--out", tmp_path / "out")
    assert code == 2
    assert "Traceback" not in err
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "name", ["bomb", "loop", "loop of maps", "deep list", "deep within bounds of recursion", "large"]
)
def test_what_stands_for_more_than_it_shows_is_refused_for_that(name):
    with pytest.raises(InputError, match=r"aliases stand for|inside of what it names|levels deep|recursion|characters"):
        parse_yaml(HOSTILE[name], "r")


def test_dates_are_text_and_numbers_are_numbers():
    text = "a: 2020-99-99\nb: 2020-01-01\nc: 1e-5\nd: 12:30\ne: [&x {f: 1}, *x]"
    assert parse_yaml(text, "r") == {
        "a": "2020-99-99", "b": "2020-01-01", "c": 1e-5, "d": 750, "e": [{"f": 1}, {"f": 1}],
    }  # fmt: skip
