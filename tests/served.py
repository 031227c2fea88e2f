"""A server as a process of its own, for tests that ask it as its users do."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
from openai import AsyncOpenAI, OpenAI
from PIL import Image

KEY = "a-token-for-tests"
PATIENCE = 120.0
"""Seconds that anything may take on a machine that does much else."""

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Served:
    """A running server.

    Args:
        *options: of ``saliency-guard serve``.
        key: its token; empty is none.
        port: to listen at; 0 is a free one.
    """

    def __init__(self, *options: str, key: str = KEY, port: int = 0) -> None:
        command = [sys.executable, "-m", "saliency_guard.cli", "serve", "--port", str(port), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment.pop("SALIENCY_GUARD_API_KEY", None)
        if key:  # An empty one is an error.
            environment["SALIENCY_GUARD_API_KEY"] = key
        self.key = key
        self.port = 0
        self.logs: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)  # noqa: S603
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(lambda: self.event("ready") is not None and self.port > 0)
        except BaseException:
            self.stop()
            raise

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if not line.startswith("{"):
                self.other_lines.append(line)
                continue
            self.logs.append(json.loads(line))
            address = _ADDRESS.search(self.logs[-1]["message"])
            if address:
                self.port = int(address[1])

    def wait_for(self, condition: Any) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.poll() is None, f"the server has ended: {self.other_lines[-20:]} {self.logs[-5:]}"
            assert time.monotonic() < end, "what was waited for does not come"
            time.sleep(0.02)

    @property
    def process_id(self) -> int:
        """Of its process."""
        return self._process.pid

    def event(self, name: str) -> dict[str, Any] | None:
        """The last log line of a kind; None where there is none."""
        return next((line for line in reversed(self.logs) if line.get("event") == name), None)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """With its token."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def get(self, path: str) -> httpx.Response:
        """What a route answers."""
        return httpx.get(self.url + path, headers=self.headers, timeout=PATIENCE)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """What a route answers to JSON."""
        return httpx.post(self.url + path, json=body, headers={**self.headers, **headers}, timeout=PATIENCE)

    def openai(self, **options: Any) -> OpenAI:
        """The real client."""
        given = {"api_key": self.key or "none", "max_retries": 0, "timeout": PATIENCE, **options}
        return OpenAI(base_url=f"{self.url}/v1", **given)

    def async_openai(self, **options: Any) -> AsyncOpenAI:
        """The real client for event loops."""
        given = {"api_key": self.key or "none", "max_retries": 0, "timeout": PATIENCE, **options}
        return AsyncOpenAI(base_url=f"{self.url}/v1", **given)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where it was never counted."""
        wanted = f"saliency_guard_{name}" + (
            "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        )
        lines = (line.rpartition(" ") for line in self.get("/metrics").text.splitlines())
        return next((float(value) for found, _, value in lines if found == wanted), 0.0)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a machine that fails."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


def data_uri(picture: Image.Image) -> str:
    """A picture as clients of OpenAI send it."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def chat_about(picture: Image.Image, question: str = "Describe the image in detail.") -> list[dict[str, Any]]:
    """OpenAI's messages: a picture and a question about it."""
    image = {"type": "image_url", "image_url": {"url": data_uri(picture)}}
    return [{"role": "user", "content": [image, {"type": "text", "text": question}]}]


def error_of(reply: httpx.Response) -> Mapping[str, Any]:
    """The error in a reply."""
    error: Mapping[str, Any] = reply.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


def numbers(count: int) -> dict[str, Any]:
    """Options of an answer that takes long: it has to be a list of so many numbers."""
    digits = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "array", "items": digits, "minItems": count, "maxItems": count}
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}},
        "max_tokens": 1900,
    }


ENDLESS = numbers(900)
