"""Pages: one self-contained file each, made by Jinja2 templates that escape every value.

A page holds everything it shows: images as data URIs, charts as inline SVG, and no address that a browser would fetch.
Its Content-Security-Policy forbids the rest: it allows one script, known by its hash, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from afmrl.errors import InputError
from afmrl.evaluation.metric_text import interval_text, metric_label, percent
from afmrl.files import atomic_write
from afmrl.report.text import MAX_TITLE, MAX_VALUE, bounded, one_line


def write_page(path: str | Path, template: str, *, styles: tuple[str, ...], script: str = "", **values: Any) -> Path:
    """Write a page, atomically: a reader finds the old page or the whole new one.

    Args:
        template: its name in templates/.
        styles: CSS files of this package.
        script: JavaScript file of this package; "": the page may run none.
        values: what the template shows; `title` and `images` (`PageImages`) among them.

    Raises:
        InputError: `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the page's file, as {path / 'report.html'}")
    source = _asset(script) if script else ""
    page = (
        _environment()
        .get_template(template)
        .render(
            policy=content_security_policy(source),
            # our own files, the only text that a page takes as it is
            style=Markup("").join(Markup(_asset(name)) for name in styles),
            script=Markup(source),
            **values,
        )
    )
    # a lone surrogate (half an emoji in a broken export) must not stop the page
    with atomic_write(path, "wb") as file:
        file.write(page.encode("utf-8", errors="replace"))
    return path


def content_security_policy(script: str) -> str:
    """Nothing may be loaded; images are data URIs, and one script is allowed, or none."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if not script:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("afmrl.report"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "title_text": lambda value: one_line(value, MAX_TITLE),
        "value_text": lambda value: one_line(value, MAX_VALUE),
        "metric": lambda name: one_line(metric_label(name), MAX_VALUE),
        "percent": percent,
        "interval": interval_text,
        "thousands": lambda number: f"{number:,}",
        "tenth": lambda number: f"{number:.1f}",
        "bar": lambda share: f"{100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0:.1f}",
    }
    return environment


def _finalize(value: Any) -> Any:
    """What every value goes through before it is escaped; what a template or `|e` escaped already is left alone."""
    return bounded(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return (resources.files("afmrl.report") / name).read_text(encoding="utf-8")
