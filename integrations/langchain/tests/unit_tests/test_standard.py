"""LangChain's own unit tests of a chat model."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_saliency_guard import SaliencyGuardedLVLM


class TestSaliencyGuardedLVLM(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return SaliencyGuardedLVLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "embedded", "temperature": 0}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True
