"""A server's settings as a deployment of Ray Serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator
from transformers.utils.logging import disable_progress_bar

from saliency_guard.errors import ConfigError
from saliency_guard.server.app import app_of
from saliency_guard.server.logs import log_to_stderr
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState
from saliency_guard.settings import Settings

NAME = "saliency-guard"

_Count = Annotated[int, Field(ge=0)]


class ReplicaSettings(Settings):
    """How many replicas there are, and what each gets.

    Attributes:
        min_replicas: how many there are at least; 0 lets all of them go while nobody asks.
        max_replicas: how many there are at most.
        target_requests: requests of one replica above which another is started; None is half of ``max_running``.
        num_cpus: cores of each.
        num_gpus: GPUs of each; a fraction lets several replicas share one.
    """

    min_replicas: _Count = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1
    target_requests: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    num_cpus: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    num_gpus: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> ReplicaSettings:
        if self.min_replicas > self.max_replicas:
            msg = f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}"
            raise ValueError(msg)
        return self


def ray_application(settings: ServerSettings | None = None, replicas: ReplicaSettings | None = None) -> Any:
    """The server as an application for ``ray.serve.run``: every replica has the model, and the same routes.

    Args:
        settings: of the server; ``host`` and ``port`` are those of Ray Serve's own proxy.
        replicas: how many replicas there are, and what each gets.

    Raises:
        ConfigError: if the settings hold a loaded model: each replica loads its own.
    """
    from ray import serve  # noqa: PLC0415 - an extra

    settings, replicas = settings or ServerSettings(), replicas or ReplicaSettings()
    if settings.lvlm is not None:
        msg = "every replica loads its own model: name it by model=..., not by lvlm=..."
        raise ConfigError(msg)
    target = replicas.target_requests if replicas.target_requests is not None else max(1.0, settings.max_running / 2)
    decorate: Callable[..., Any] = serve.deployment(
        name=NAME,
        max_ongoing_requests=settings.max_running + settings.max_waiting,
        ray_actor_options={"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": target,
        },
        graceful_shutdown_timeout_s=settings.shutdown_timeout,
    )

    def replica_app() -> Any:  # Serve tells a builder from an application by its being a plain function.
        return _replica_app(settings)

    return decorate(serve.ingress(replica_app)()).bind()


def build(arguments: Mapping[str, Any]) -> Any:
    """`ray_application` for ``serve run saliency_guard.server.ray:build num_gpus=1`` and for Serve's config files.

    Args:
        arguments: fields of `ServerSettings` and of `ReplicaSettings`.
    """
    of_replicas = {name: value for name, value in arguments.items() if name in ReplicaSettings.model_fields}
    of_server = {name: value for name, value in arguments.items() if name not in of_replicas}
    return ray_application(ServerSettings(**of_server), ReplicaSettings(**of_replicas))


def _replica_app(settings: ServerSettings) -> Any:
    """The application of one replica, its model loaded: Serve sends no requests before.

    Raises:
        SaliencyGuardError: if the model cannot be loaded; Serve says so, and starts no replica.
    """
    log_to_stderr()
    disable_progress_bar()
    state = ServerState(settings)
    state.load()
    if state.failure is not None:
        raise state.failure
    return app_of(state)
