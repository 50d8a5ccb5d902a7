"""The snippets of docs/guides/serving.md run as they are, but for the address."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT

pytest_plugins = ["serving_shop"]
GUIDE = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
PRINTED = ["2 64", "1 0.", "04 0."]


@pytest.mark.parametrize(("snippet", "printed"), zip(SNIPPETS, PRINTED, strict=True), ids=["openai", "cohere", "ours"])
def test_a_snippet_runs(snippet, printed, address, capsys):
    pytest.importorskip("openai")
    pytest.importorskip("cohere")
    exec(compile(snippet.replace("http://127.0.0.1:8000", address), "serving.md", "exec"), {})
    assert printed in capsys.readouterr().out


def test_the_guide_names_every_route(client):
    named = GUIDE.replace("`/v1/rerank`", "").replace("`/v2/rerank`", "")
    missing = [path for path in client.get("/openapi.json").json()["paths"] if path not in GUIDE and path not in named]
    assert missing == []
