"""saliency-guard for LangChain: a chat model, callbacks and guards that know what every token rests on."""

from langchain_saliency_guard.callbacks import AsyncGroundingCallbackHandler, GroundingCallbackHandler
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM

__version__ = "0.1.0"
__all__ = [
    "AsyncGroundingCallbackHandler",
    "GroundingCallbackHandler",
    "SaliencyGuardedLVLM",
    "__version__",
]
