"""Sphinx: `sphinx-build -W --keep-going -b html docs docs/_build`."""

from __future__ import annotations

import contextlib
import os
import re
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

# autodoc imports the package; importing must not reach for a network or a GPU
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

with contextlib.suppress(ImportError):
    # autodoc imports modules as type checkers see them, and FastAPI's own models cannot be made so
    import fastapi  # noqa: F401

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "src" / "afmrl"
NO_PAGE = {"cli", "recipes"}  # `afmrl COMMAND --help` and `afmrl recipe NAME` say it better
HIDDEN_COLON = "\ue000"

project = "afmrl"
author = "afmrl contributors"
copyright = "afmrl contributors"
try:
    release = metadata.version("afmrl")
except metadata.PackageNotFoundError:  # a checkout that is only on PYTHONPATH
    release = ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings write `name`

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

napoleon_numpy_docstring = False
napoleon_custom_sections = [("Shape", "params_style"), ("Shapes", "params_style")]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "afmrl"
html_static_path = ["_static"]
html_css_files = ["afmrl.css"]
html_extra_path = ["llms.txt"]
html_show_sourcelink = False
html_copy_source = False


def write_package_pages(app: Sphinx) -> None:
    """Write one page a package to api/modules, so that a module that is moved or added needs no edit here."""
    import afmrl

    public: dict[str, list[str]] = {}  # by the module that defines it; documented once, on the page of public names
    for name in afmrl.__all__:
        if not name.startswith("__"):
            public.setdefault(getattr(afmrl, name).__module__, []).append(name)

    def section(module: str) -> str:
        names = public.get(module, [])
        note = "".join(f"`{name}` is one of the [public names](../public.md).\n\n" for name in names)
        excluded = f"   :exclude-members: {', '.join(names)}\n" if names else ""
        return f"## {module}\n\n{note}```{{eval-rst}}\n.. automodule:: {module}\n{excluded}```\n"

    pages = {}
    for package in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        if package.name in NO_PAGE:
            continue
        modules = [
            ".".join(("afmrl", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
            for file in sorted(package.rglob("*.py"))
        ]
        pages[f"{package.name}.md"] = f"# afmrl.{package.name}\n\n" + "\n".join(map(section, modules))
    beside = [f"afmrl.{file.stem}" for file in sorted(PACKAGE.glob("*.py")) if not file.stem.startswith("__")]
    pages["modules.md"] = "# Modules beside the packages\n\n" + "\n".join(map(section, beside))
    folder = HERE / "api" / "modules"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.md")} - set(pages):
        (folder / stale).unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.is_file() or page.read_text(encoding="utf-8") != text:  # an unchanged page is not built again
            page.write_text(text, encoding="utf-8")


def prepare_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Bring docstrings to what Sphinx reads: formulas with bars, Markdown tables, one-line notes of attributes."""
    prepared: list[str] = []
    for line in lines:
        if line.lstrip().startswith("|"):  # a row of a table, kept as it is written
            if not (prepared and prepared[-1].startswith("    |")):
                prepared += ["", "::", ""]
            prepared.append("    " + line.lstrip())
            continue
        if prepared and prepared[-1].startswith("    |") and line.strip():
            prepared.append("")
        # |R| is a size here and a substitution to docutils; in `code` it is left alone
        prepared.append(
            "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in re.split(r"(`+[^`]*`+)", line))
        )
    if what in ("attribute", "data", "property") and prepared:
        # napoleon takes what is before the first colon for a type; these are sentences
        prepared[0] = prepared[0].replace(":", HIDDEN_COLON)
    lines[:] = prepared


def restore_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Bring back the colons that were hidden from napoleon."""
    lines[:] = [line.replace(HIDDEN_COLON, ":") for line in lines]


def shorten_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write a dataclass's default factory as an ellipsis, which parses as Python."""
    return signature.replace("<factory>", "...") if signature else signature, returns


def keep_intervals_whole(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Break no line within an interval, as in [19.8, 29.9], in the cells of tables."""
    for cell in doctree.findall(nodes.entry):
        for text in list(cell.findall(nodes.Text)):
            whole = re.sub(r"\[([^\]]*\d), (\S*\d)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", text)
            if whole != text:
                text.parent.replace(text, nodes.Text(whole))


def setup(app: Sphinx) -> None:
    """Connect the functions above, before and after napoleon, which has priority 500."""
    app.connect("builder-inited", write_package_pages)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", restore_colons, priority=600)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("doctree-resolved", keep_intervals_whole)
