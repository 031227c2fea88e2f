"""The model over HTTP: an OpenAI-compatible server whose every answer comes with its grounding (extra ``serve``)."""

from __future__ import annotations

from saliency_guard.errors import require_extra

for _module, _package in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("prometheus_client", "prometheus-client")):
    require_extra(_module, _package, "serve")

from saliency_guard.server.app import create_app  # noqa: E402 - what it needs is there
from saliency_guard.server.process import serve  # noqa: E402
from saliency_guard.server.settings import API_KEY_VARIABLE, ServerSettings  # noqa: E402

__all__ = ["API_KEY_VARIABLE", "ServerSettings", "create_app", "serve"]
