"""Settings as what identifies them: the key of caches, and what tracers write down."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel

from saliency_guard import GuardPolicy


def plain(value: Any) -> Any:
    """A setting as something that is the same for equal settings, in every process."""
    if isinstance(value, GuardPolicy):
        fallback = value.fallback
        named = None if fallback is None else f"{fallback.__module__}.{fallback.__qualname__}"
        return {
            **value.model_dump(mode="json", exclude={"calibrator"}),
            "calibrator": digest(value),
            "fallback": named,
        }
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def digest(value: BaseModel | None) -> str | None:
    """A short name of settings too long to write out."""
    return None if value is None else hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:16]
