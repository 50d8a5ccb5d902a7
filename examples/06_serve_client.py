"""Asks a server for key attributes: any server that speaks the OpenAI chat protocol (vLLM, SGLang, llama.cpp, …).

`afmrl serve` serves embeddings and search, not generators; this is the client of a generator's server. So that it runs
anywhere, a small server on loopback takes the model's place: it answers with JSON, as a general model does when the
prompt asks for it. Against a real server only the address changes. One sees each offer's attributes, and what the
server was asked.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from afmrl import AttributeGenerator, Offer

prompts: list[str] = []


class Model(BaseHTTPRequestHandler):
    """Answers as a chat model would: the title's last word is the color."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The models that are served."""
        self.reply({"data": [{"id": "demo"}]})

    def do_POST(self) -> None:
        """One completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompts.append(body["messages"][-1]["content"][-1]["text"])
        title = next(line for line in prompts[-1].splitlines() if line.startswith("Title: "))
        text = json.dumps({"color": title.split()[-1], "size": "unknown"})
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self.reply({"choices": [choice], "usage": {"prompt_tokens": 60, "completion_tokens": 12}})

    def reply(self, data: dict[str, Any]) -> None:
        """Send JSON."""
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()

generator = AttributeGenerator.from_pretrained(f"openai:http://127.0.0.1:{server.server_port}/v1#demo")
offers = [Offer("1", "Maison Lune silk dress navy"), Offer("2", "Nordwind linen shirt white")]
for offer, attributes in zip(offers, generator.attributes(offers), strict=True):
    print(f"{offer.title}: {attributes}")
print("the server was asked:", min(prompts).splitlines()[0][:60], "…")
server.shutdown()
