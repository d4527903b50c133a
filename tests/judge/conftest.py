"""A synthetic run to judge, and a server that answers as a judge would, or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.report.conftest import gpu_run

__all__ = ["gpu_run"]

Reply = Callable[[str, str], str]


def honest(system: str, prompt: str) -> str:
    """Right if the output holds what is expected; 62 for any run."""
    asked = json.loads(prompt)
    if "criteria" in asked:
        return json.dumps({"score": 62, "sentence": "Half of it was <b>measured</b>."})
    return json.dumps({"verdict": "right" if asked["expected"] in asked["output"] else "wrong"})


@dataclass
class JudgeServer:
    """An OpenAI-compatible endpoint on this machine.

    Attributes:
        reply: Makes the judge's text from both messages.
        status: Answered instead of a reply from request `until` on, if not 200. 0 hangs up.
        until: Requests that are answered properly before that; None: all.
    """

    url: str = ""
    reply: Reply = honest
    status: int = 200
    until: int | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    pytest.importorskip("openai")
    from gistbench.judge import endpoint

    monkeypatch.setattr(endpoint, "MAX_RETRIES", 0)  # waiting is the client's own business
    state = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answered = len(state.requests)
            if state.until is not None and answered >= state.until and state.status != 200:
                if state.status == 0:
                    self.close_connection = True
                    return
                self._send(state.status, {"error": {"message": "no, sk-secret"}})
                return
            state.requests.append(body)
            state.keys.append(self.headers["Authorization"])
            system, user = (message["content"] for message in body["messages"])
            message = {"role": "assistant", "content": state.reply(system, user)}
            self._send(200, {"id": "1", "choices": [{"index": 0, "message": message}]})

        def _send(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield state
    listening.shutdown()
    listening.server_close()
