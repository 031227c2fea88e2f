"""saliency-guard for LangChain: a chat model, callbacks and guards that know what every token rests on."""

from typing import TYPE_CHECKING, Any

from langchain_saliency_guard._citations import Citation, CitedAnswer
from langchain_saliency_guard.callbacks import AsyncGroundingCallbackHandler, GroundingCallbackHandler
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM
from langchain_saliency_guard.guard import GroundingGuard
from langchain_saliency_guard.rag import RetrievalGuard

if TYPE_CHECKING:
    from langchain_saliency_guard.middleware import GroundingMiddleware

__version__ = "0.2.0"
__all__ = [
    "AsyncGroundingCallbackHandler",
    "Citation",
    "CitedAnswer",
    "GroundingCallbackHandler",
    "GroundingGuard",
    "GroundingMiddleware",
    "RetrievalGuard",
    "SaliencyGuardedLVLM",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """The middleware needs LangChain itself (extra ``agents``), so it is imported on first use."""
    if name == "GroundingMiddleware":
        from langchain_saliency_guard.middleware import GroundingMiddleware  # noqa: PLC0415 - an extra

        return GroundingMiddleware
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
