"""A server under load: how many tokens a second several clients get together, and how long each of them waits."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import torch
from transformers import AutoProcessor, CLIPImageProcessorPil, LlavaProcessor

from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.errors import ModelError
from saliency_guard.evaluation.random_llava import random_llava
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render, sample_scene

PERCENTILES = (50, 90, 99)
_SIDE = 336
_STARTED = "Uvicorn running on"
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Load:
    """What some clients got, all of their requests together.

    Attributes:
        clients: that asked at the same time, each for its next answer when it had the last one.
        tokens: written for all of them.
        seconds: from the first request to the last answer.
        latencies: seconds of every request.
    """

    clients: int
    tokens: int
    seconds: float
    latencies: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Tokens a second, of all clients together."""
        return self.tokens / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds within which so many per cent of the requests were answered."""
        return float(np.percentile(self.latencies, percent))


def random_lvlm(layers: int | None = None, *, batch_size: int = 8) -> LVLM:
    """A LLaVA of about 300 million parameters with random weights, and a processor for it; it never ends an answer.

    Args:
        layers: number of decoder layers, instead of 18.
        batch_size: as for `LVLM`.
    """
    embedded = AutoProcessor.from_pretrained(EMBEDDED_PATH)
    tokenizer = embedded.tokenizer
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"height": _SIDE, "width": _SIDE}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token=embedded.image_token,
        num_additional_image_tokens=1,
        chat_template=embedded.chat_template,
    )
    model: Any = random_llava(layers=layers)
    model.config.image_token_id = tokenizer.convert_tokens_to_ids(embedded.image_token)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with torch.no_grad():  # Tokens that are never the likeliest: the end, and those that the tokenizer has no text for.
        head = model.get_output_embeddings().weight
        head[[*tokenizer.all_special_ids, *range(len(tokenizer), len(head))]] = 0.0
    return LVLM(model, processor, model_id="random", batch_size=batch_size)


def serve_random(layers: int | None, clients: int) -> None:
    """Serve `random_lvlm`; `served` starts this as a process of its own."""
    from saliency_guard.server import ServerSettings, serve  # noqa: PLC0415 - an extra

    lvlm = random_lvlm(layers, batch_size=clients)
    serve(ServerSettings(lvlm=lvlm, port=0, api_key=None, max_running=clients, timeout=_PATIENCE))


@contextmanager
def served(layers: int | None = None, *, clients: int = 8) -> Iterator[str]:
    """The URL of a server with `random_lvlm`, in a process of its own.

    Args:
        layers: as for `random_lvlm`.
        clients: requests that it answers at the same time.

    Raises:
        ModelError: if it does not come to serve.
    """
    code = f"from saliency_guard.evaluation import load; load.serve_random({layers}, {clients})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        logs: threading.Thread | None = None
        try:
            address = _address(process)
            assert process.stderr is not None  # noqa: S101 - it is a pipe
            logs = threading.Thread(target=process.stderr.read)  # Nobody needs them, and they must not pile up.
            logs.start()
            yield address
        finally:
            process.terminate()
            if logs is not None:
                logs.join()


def _address(process: subprocess.Popen[str]) -> str:
    """Where a server listens, once its model is there; its first lines say so."""
    address = ""
    is_ready = False
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    for line in process.stderr:
        logged = json.loads(line) if line.startswith("{") else {"message": line}
        if _STARTED in logged["message"]:
            address = logged["message"].removeprefix(_STARTED).split()[0]
        is_ready = is_ready or logged.get("event") == "ready"
        if address and is_ready:
            return address
    msg = "the server has ended before it served: is the extra `serve` installed?"
    raise ModelError(msg)


async def measured(client: httpx.AsyncClient, clients: int, requests: int, tokens: int) -> Load:
    """What several clients get that ask at the same time.

    Args:
        client: of a server.
        clients: how many ask.
        requests: of each, one after the other, each about a picture of its own.
        tokens: of every answer.
    """
    bodies = [[_body(number * requests + index, tokens) for index in range(requests)] for number in range(clients)]
    started = time.perf_counter()
    parts = await asyncio.gather(*(_asked(client, each) for each in bodies))
    seconds = time.perf_counter() - started
    written = [answer for part in parts for answer in part]
    return Load(clients, sum(count for count, _ in written), seconds, tuple(latency for _, latency in written))


async def _asked(client: httpx.AsyncClient, bodies: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Tokens and seconds of one client's requests."""
    answers: list[tuple[int, float]] = []
    for body in bodies:
        started = time.perf_counter()
        reply = await client.post("/v1/chat/completions", json=body, timeout=_PATIENCE)
        if reply.status_code != 200:
            msg = f"the server answers {reply.status_code}: {reply.text[:200]}"
            raise ModelError(msg)
        answers.append((reply.json()["usage"]["completion_tokens"], time.perf_counter() - started))
    return answers


def _body(seed: int, tokens: int) -> dict[str, Any]:
    file = io.BytesIO()
    render(sample_scene(seed), _SIDE).image.save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": DESCRIBE}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": tokens}


async def compared(
    client: httpx.AsyncClient,
    *,
    clients: int = 8,
    requests: int = 2,
    tokens: int = 64,
    rounds: int = 3,
    on_round: Callable[[], None] = lambda: None,
) -> list[tuple[Load, Load]]:
    """One client and several, in turns.

    Args:
        client: of a server.
        clients: how many several are.
        requests: of each client.
        tokens: of every answer.
        rounds: how often.
        on_round: called after each.
    """
    await measured(client, 1, 1, min(tokens, 8))  # Warm-up.
    rows: list[tuple[Load, Load]] = []
    for _ in range(rounds):
        rows.append((await measured(client, 1, requests, tokens), await measured(client, clients, requests, tokens)))
        on_round()
    return rows
