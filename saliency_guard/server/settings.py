"""The settings of a server: its model, who may use it, and how much of it."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator, model_validator

from saliency_guard.adapters.settings import ServedLVLM
from saliency_guard.batching.scheduler import DEFAULT_BATCH_SIZE, DEFAULT_QUEUE_SIZE
from saliency_guard.chat.fetch import URLFetcher
from saliency_guard.lvlm import LVLM
from saliency_guard.settings import Seconds

API_KEY_VARIABLE = "SALIENCY_GUARD_API_KEY"
"""The environment variable with the token that clients send."""

_MEGABYTE = 1_000_000

_Most = Annotated[int, Field(ge=1)]


def _key_of_environment() -> SecretStr | None:
    key = os.environ.get(API_KEY_VARIABLE)
    return SecretStr(key) if key is not None else None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is one that no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class ServerSettings(ServedLVLM):
    """Settings of a server; those of the model, and the defaults of its answers, are `ServedLVLM`'s.

    Attributes:
        host: name or address to listen at. Other machines reach the server only with an ``api_key``.
        port: to listen at; 0 is a free one.
        api_key: the token that clients send; None is that of the environment variable SALIENCY_GUARD_API_KEY.
        served_model_name: what clients call the model; None is its own name.
        request_policies: whether a request may bring a policy of its own although the server has one.
        batch_size: how many answers the model writes side by side; memory for keys and values grows with it.
        max_running: how many requests are answered at the same time; those beyond a batch prepare their pictures.
        max_waiting: how many more may wait; any further is refused with 429.
        max_choices: the largest ``n`` of a request.
        max_body_bytes: a larger body is refused before it is read.
        max_images: the most pictures of a request.
        max_image_bytes: the most that one picture may take as a file.
        max_image_pixels: the most pixels of a picture.
        image_hosts: hosts whose https URLs are fetched; without any, pictures come in data URIs only.
        body_timeout: seconds for a body to arrive.
        shutdown_timeout: seconds that requests have to come to their end after SIGTERM.
        log_contents: whether questions and answers stand in the logs.
        timeout: seconds for a request, waiting included.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_key: SecretStr | None = Field(default_factory=_key_of_environment, exclude=True, validate_default=True)
    served_model_name: str | None = Field(default=None, min_length=1)
    request_policies: bool = False
    batch_size: _Most = DEFAULT_BATCH_SIZE
    max_running: _Most = 16
    max_waiting: Annotated[int, Field(ge=0)] = 64
    max_choices: _Most = 8
    max_body_bytes: _Most = 32 * _MEGABYTE
    max_images: _Most = 16
    max_image_bytes: _Most = 20 * _MEGABYTE
    max_image_pixels: _Most = 20 * _MEGABYTE
    image_hosts: tuple[str, ...] = ()
    body_timeout: Seconds = 30.0
    shutdown_timeout: Seconds = 30.0
    log_contents: bool = False
    timeout: Seconds | None = 300.0

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key is not None else "unused"
        if not text:
            msg = (
                f"the token is empty, and a server without one is for this machine alone: give {API_KEY_VARIABLE} a "
                f"value, or leave it out (`unset {API_KEY_VARIABLE}`) if that is meant"
            )
            raise ValueError(msg)
        if not text.isascii() or any(sign.isspace() or not sign.isprintable() for sign in text):
            msg = "a token is printable ASCII without white space, as it stands in a header"
            raise ValueError(msg)
        return key

    @model_validator(mode="after")
    def _check(self) -> ServerSettings:
        if self.api_key is None and not is_loopback(self.host):
            msg = (
                f"other machines reach {self.host}, and there is no token: set {API_KEY_VARIABLE}, or listen at "
                "127.0.0.1"
            )
            raise ValueError(msg)
        if self.image_hosts and self.fetch_image is None:
            self.fetch_image = URLFetcher(self.image_hosts, max_bytes=self.max_image_bytes)
        return self

    @property
    def name(self) -> str:
        """What the model is called in answers."""
        return self.served_model_name or self.served_name

    def loaded(self) -> LVLM:
        """The model, loaded, with its limits and its calibrator."""
        limits: dict[str, Any] = {
            "max_image_bytes": self.max_image_bytes,
            "max_image_pixels": self.max_image_pixels,
            "batch_size": self.batch_size,
            "queue_size": max(DEFAULT_QUEUE_SIZE, self.max_running * max(self.max_choices, DEFAULT_BATCH_SIZE)),
        }
        return self.model_copy(update={"model_kwargs": {**limits, **self.model_kwargs}}).engine()
