"""The server as an application of Ray Serve, on a real cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from served import KEY, PATIENCE, chat_about, error_of

from saliency_guard import LVLM, ConfigError
from saliency_guard.chat.messages import chat
from saliency_guard.server import ServerSettings

pytest.importorskip("ray.serve", reason="the extra ray is not installed")

from saliency_guard.server.ray import build, ray_application
from saliency_guard.server.ray.application import ReplicaSettings

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1", "::1"]), pytest.mark.xdist_group("ray")]

ASKED = "Is there a dog in the image?"


@pytest.fixture(scope="module")
def url(ray_cluster: Any) -> Iterator[str]:
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(ray_application(ServerSettings(api_key=KEY), ReplicaSettings(num_cpus=0.5)), name="tested")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_it_answers_as_the_server_does(url: str, lvlm: LVLM, picture: Image.Image) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE, headers={"authorization": f"Bearer {KEY}"}) as client:
        assert client.get("/ready").json() == {"status": "ready"}
        body = {"model": "embedded", "messages": chat_about(picture, ASKED), "max_tokens": 12}
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        (choice,) = reply.json()["choices"]
        alone = lvlm.generate(chat(picture, ASKED), max_new_tokens=12)
        assert choice["message"]["content"] == alone.text
        assert choice["grounding"]["score"] == pytest.approx(alone.grounding, abs=1e-4)
        with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert len(lines) > 3
        scored = client.post("/v1/score", json={"messages": body["messages"], "text": "No."})
        assert scored.status_code == 200, scored.text
    refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert refused.status_code == 401
    assert "message" in error_of(refused)


def test_settings_become_those_of_the_deployment() -> None:
    made = build({"model": "embedded", "num_gpus": 0.5, "max_replicas": 3, "max_running": 8, "shutdown_timeout": 7})
    deployment = made._bound_deployment
    assert deployment.ray_actor_options["num_gpus"] == 0.5
    assert deployment.max_ongoing_requests == 8 + 64
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 3, 4.0)


def test_wrong_settings_are_refused(lvlm: LVLM) -> None:
    with pytest.raises(ConfigError, match="loads its own model"):
        ray_application(ServerSettings(lvlm=lvlm))
    with pytest.raises(ConfigError, match="above max_replicas"):
        ReplicaSettings(min_replicas=2)
    with pytest.raises(ConfigError, match="elephants"):
        build({"elephants": 2})
