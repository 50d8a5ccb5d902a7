"""The README and the pages of docs/: links resolve, public names have a place, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import afmrl

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if not {"_build", "modules"} & set(p.parts))
TEXTS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES]
NAMES = [str(path.relative_to(ROOT)) for path in TEXTS]

CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^ {4}|`|&& |-m )afmrl ([a-z]+)", re.MULTILINE)
PAGE = re.compile(r"\bdocs/[a-z_/]+\.md\b")
CODE = {".py", ".yaml", ".md"}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", TEXTS, ids=NAMES)
def test_relative_links_resolve(text: Path) -> None:
    for target in LINK.findall(CODE_BLOCK.sub("", text.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (text.parent / path).resolve() if path else text
        assert file.exists(), f"{text.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{text.name}: {target}"


def test_links_of_llms_txt_name_pages() -> None:
    text = (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# afmrl\n\n> ")
    targets = LINK.findall(text)
    assert targets
    for target in targets:
        assert (ROOT / "docs" / target).with_suffix(".md").is_file(), target


def test_every_public_name_is_in_the_api() -> None:
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "api").glob("*.md"))
    missing = [name for name in afmrl.__all__ if not re.search(rf"\bafmrl\.{name}\b", pages)]
    assert not missing


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 110


def test_ci_runs_the_command_of_the_readme() -> None:
    command = 'pip install -c constraints.txt -e ".[all]" && python scripts/check.py'
    assert command in README.read_text(encoding="utf-8")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", TEXTS, ids=NAMES)
def test_commands_exist(text: Path) -> None:
    from afmrl.cli.app import app

    for command in set(COMMAND.findall(text.read_text(encoding="utf-8"))):
        assert command in app, f"{text.name}: afmrl {command}"


def test_pages_that_the_code_names_exist() -> None:
    files = [p for folder in ("src", "benchmarks", "examples") for p in (ROOT / folder).rglob("*") if p.suffix in CODE]
    named = {(file.name, page) for file in files for page in PAGE.findall(file.read_text(encoding="utf-8"))}
    assert not [(file, page) for file, page in named if not (ROOT / page).is_file()]
