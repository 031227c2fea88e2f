"""The server as an application of Ray Serve (extras ``serve`` and ``ray``): replicas that come and go with the load."""

from __future__ import annotations

from saliency_guard.errors import require_extra

require_extra("ray", "Ray", "ray")

from saliency_guard.server.ray.application import build, ray_application  # noqa: E402 - what it needs is there

__all__ = ["build", "ray_application"]
