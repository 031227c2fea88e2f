"""What a model says of itself: settings as plain values, for cache keys and tracers, and its profile."""

from __future__ import annotations

import hashlib
from typing import Any

from langchain_core.language_models import ModelProfile
from pydantic import BaseModel

from saliency_guard import GuardPolicy


def plain(value: Any) -> Any:
    """A setting as a plain value; equal settings give equal values in every process."""
    if isinstance(value, GuardPolicy):
        functions = {name: getattr(value, name) for name in ("fallback", "stop")}
        names = {name: None if function is None else _function_name(function) for name, function in functions.items()}
        return {
            **value.model_dump(mode="json", exclude={"calibrator"}),
            "calibrator": digest(value),
            **names,
        }
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _function_name(function: Any) -> str:
    """The name of a module's function; closures, methods and objects also get their id."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    is_unnamed = "<" in name or not hasattr(function, "__qualname__") or hasattr(function, "__self__")
    return f"{name} {id(function)}" if is_unnamed else name


def digest(value: BaseModel | None) -> str | None:
    """A short hash of settings that are too long to write out."""
    return None if value is None else hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:16]


def profile(*, fetches: bool) -> ModelProfile:
    """What the model takes and gives; known without loading it.

    Args:
        fetches: whether it gets pictures behind URLs.
    """
    return ModelProfile(
        text_inputs=True,
        image_inputs=True,
        image_url_inputs=fetches,
        image_tool_message=True,
        pdf_inputs=False,
        audio_inputs=False,
        video_inputs=False,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        structured_output=False,  # Agents then use a forced tool call.
    )
