"""``saliency-guard serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saliency_guard.cli.options import (
    Alpha,
    Beta,
    Calibration,
    Locore,
    MinP,
    Model,
    Sgrs,
    locore_settings,
    sgrs_settings,
)
from saliency_guard.cli.shared import reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

_MEGABYTE = 1_000_000


def serve_command(
    *,
    model: Model = EMBEDDED,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than loopback need the token SALIENCY_GUARD_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is a free one.")] = 8000,
    served_model_name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; a GPU if there is one.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, ...; auto is the checkpoint's.")] = "auto",
    calibrator: Calibration = None,
    policy: Annotated[
        Path | None, typer.Option(help="A policy for all answers (JSON), as GuardPolicy.save writes it.")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(help="With --policy: the text to give out instead of a refused answer.")
    ] = None,
    request_policies: Annotated[
        bool, typer.Option("--request-policies", help="With --policy: requests may bring another one.")
    ] = False,
    report: Annotated[
        str, typer.Option(help="How much answers tell of their grounding: summary, tokens or full.")
    ] = "summary",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of an answer, where a request does not say.")
    ] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers that the model writes side by side.")] = 8,
    max_running: Annotated[int, typer.Option(min=1, help="Requests that are answered at the same time.")] = 16,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; further ones get 429.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds for a request, waiting included.")] = 300.0,
    shutdown_timeout: Annotated[float, typer.Option(help="Seconds to finish requests after SIGTERM.")] = 30.0,
    max_body: Annotated[float, typer.Option(help="Megabytes of the largest body.")] = 32.0,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures of one request.")] = 16,
    image_host: Annotated[
        list[str] | None, typer.Option(help="A host whose https pictures are fetched; may be given several times.")
    ] = None,
    role_markers: Annotated[
        str, typer.Option(help="Headers of the chat template in messages: keep, escape or refuse.")
    ] = "keep",
    log_contents: Annotated[bool, typer.Option("--log-contents", help="Log questions and answers, too.")] = False,
    sgrs: Sgrs = False,
    alpha: Alpha = None,
    min_p: MinP = None,
    locore: Locore = False,
    beta: Beta = None,
) -> None:
    """Serve the model over HTTP: OpenAI's chat completions, every answer with its grounding.

    Clients send the token of the environment variable SALIENCY_GUARD_API_KEY; without one only this machine is served.
    """
    with reported():
        from saliency_guard.calibration.sharing import read_calibrator
        from saliency_guard.server import ServerSettings, serve

        settings: dict[str, Any] = {
            "model": model,
            "host": host,
            "port": port,
            "served_model_name": served_model_name,
            "device": device,
            "dtype": dtype,
            "calibrator": read_calibrator(calibrator),  # Now, and not when the model is there.
            "policy": _policy(policy, fallback),
            "request_policies": request_policies,
            "report": report,
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "max_running": max_running,
            "max_waiting": max_waiting,
            "timeout": timeout,
            "shutdown_timeout": shutdown_timeout,
            "max_body_bytes": int(max_body * _MEGABYTE),
            "max_images": max_images,
            "image_hosts": tuple(image_host or ()),
            "role_markers": role_markers,
            "log_contents": log_contents,
            "sgrs": sgrs_settings(on=sgrs, alpha=alpha, min_p=min_p),
            "locore": locore_settings(on=locore, beta=beta),
        }
        serve(ServerSettings(**settings))


def _policy(path: Path | None, fallback: str | None) -> Any:
    from saliency_guard.guard.policy import GuardPolicy
    from saliency_guard.server.policies import FixedFallback

    if path is None:
        if fallback is not None:
            msg = "--fallback is what a policy gives out instead of an answer: give --policy, too"
            raise ConfigError(msg)
        return None
    return GuardPolicy.load(path, **({"fallback": FixedFallback(fallback)} if fallback is not None else {}))
