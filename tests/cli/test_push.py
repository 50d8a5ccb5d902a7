"""`afmrl push` against a hub on loopback."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import afmrl

TOKEN = "hf_canary0123456789"


@contextmanager
def hub(*, status=200):
    """A hub that takes all files in the commit itself; gives its address and what was asked of it."""
    seen = {"files": {}, "created": [], "tokens": set()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, data, code=200):
            body = json.dumps(data).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.reply({"id": "shop/model", "sha": "0" * 40, "siblings": []})

        def do_POST(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen["tokens"].add(self.headers.get("Authorization"))
            if status != 200:
                self.reply({"error": "no"}, status)
            elif self.path.startswith("/api/repos/create"):
                seen["created"].append(json.loads(body))
                self.reply({"url": f"{address}/shop/model", "id": "shop/model"})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
                self.reply({"files": modes})
            elif "/commit/" in self.path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        seen["files"][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self.reply({"commitUrl": f"{address}/shop/model/commit/1", "commitOid": "1" * 40, "pullRequestUrl": ""})
            else:
                self.reply({"message": "ok", "warnings": [], "errors": []})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address, seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run_folder(tmp_path):
    """What a run leaves, as far as a card reads it; the base was a folder of the machine that trained."""
    interval = [0.464, 0.422, 0.504]
    row = {"recall@1": interval, "recall@5": interval, "recall@10": interval, "mrr": interval}
    recipe = {
        "base": "/home/secret/models/Qwen2-VL-2B", "generator_base": None, "catalog": {"path": "/home/secret/o.jsonl"},
        "agcl": {"max_steps": 150, "learning_rate": 1e-3}, "sft": {"max_steps": 60, "learning_rate": 1e-3},
        "rar": {"max_steps": 0, "learning_rate": 1e-4},
    }  # fmt: skip
    metrics = {
        "split": "test",
        "num_queries": 500,
        "num_gallery": 1000,
        "rows": {"agcl": row},
        "floors": {"tfidf": row},
    }
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe, "seed": 3, "versions": {"torch": "2.13.0"}}))
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    for kind in ("embedder", "generator"):
        (tmp_path / kind / "1_Pooling").mkdir(parents=True)
        (tmp_path / kind / "1_Pooling" / "config.json").write_text("{}")
        for file in ("config.json", "chat_template.jinja", "model.safetensors", "training_args.bin", "left.tmp"):
            (tmp_path / kind / file).write_text("{}")
        (tmp_path / kind / "checkpoint-5").mkdir()
        (tmp_path / kind / "checkpoint-5" / "model.safetensors").write_text("old")
    (tmp_path / "embedder" / "modules.json").write_text("[]")
    (tmp_path / "embedder" / "afmrl.json").write_text('{"attributes_on": "both"}')
    return tmp_path


def push(*arguments, endpoint, token=TOKEN):
    env = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return afmrl("push", *arguments, env=env)


def test_a_model_is_uploaded_with_its_card_and_without_what_is_no_part_of_it(run_folder):
    with hub() as (endpoint, seen):
        done = push(run_folder / "embedder", "shop/model", "--license", "apache-2.0", endpoint=endpoint)
    assert done.returncode == 0, done.stderr
    assert set(seen["files"]) == {
        "README.md", "config.json", "chat_template.jinja", "model.safetensors", "modules.json", "afmrl.json",
        "1_Pooling/config.json",
    }  # fmt: skip
    assert seen["created"][0]["name"] == "model" and seen["tokens"] == {f"Bearer {TOKEN}"}
    card = seen["files"]["README.md"].decode()
    assert "license: apache-2.0" in card and "same product" in card and "not trained for relevance" in card
    assert "| AGCL | 46.4 [42.2, 50.4] |" in card and "| floor: tfidf | 46.4" in card
    assert "base_model: Qwen2-VL-2B" in card and "were in the text of: **both**" in card
    assert "secret" not in card and TOKEN not in card + done.stdout + done.stderr


def test_a_generators_card_says_its_prompt(run_folder):
    done = afmrl("push", run_folder / "generator", "shop/writer", "--card-only")
    assert done.returncode == 0, done.stderr
    card = (run_folder / "generator" / "README.md").read_text()
    assert "`Key attributes:`" in card and "| SFT | 60 steps" in card
    assert "RAR" not in card.split("## How well")[0]  # it had no steps


@pytest.mark.parametrize(("status", "said"), [(401, "is the token valid"), (500, "the hub refused shop/model (500)")])
def test_a_hub_that_refuses_is_one_line(run_folder, status, said):
    with hub(status=status) as (endpoint, _):
        done = push(run_folder / "embedder", "shop/model", endpoint=endpoint)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


def test_what_cannot_be_pushed_is_said(run_folder, tmp_path):
    nowhere = push(run_folder / "embedder", "shop/model", endpoint="http://127.0.0.1:9")
    assert nowhere.returncode == 2 and "cannot be reached" in nowhere.stderr
    offline = afmrl("push", run_folder / "embedder", "shop/model", env={"HF_HUB_OFFLINE": "1", "HF_TOKEN": TOKEN})
    assert offline.returncode == 2 and "HF_HUB_OFFLINE" in offline.stderr
    unnamed = afmrl("push", run_folder / "embedder", "model")
    assert unnamed.returncode == 2 and "OWNER/NAME" in unnamed.stderr
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_config.json").write_text("{}")
    alone = afmrl("push", adapters, "shop/model")
    assert alone.returncode == 2 and "adapters alone" in alone.stderr
