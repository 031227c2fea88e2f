"""A model of any kind behind a guard: what it takes and what it hands on."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from langchain_saliency_guard import GroundingGuard
from saliency_guard import GuardPolicy

FALSE = "The image shows a zebra."


def test_a_guarded_model_takes_tools(ask: Any) -> None:
    class Bound(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self.bind(tools=tools, **kwargs)

    call = {"name": "look", "args": {"at": FALSE}, "id": "1", "type": "tool_call"}
    model = Bound(messages=iter([AIMessage("", tool_calls=[call])]))
    guard = GroundingGuard(GuardPolicy(min_grounding=0.5))
    message = guard.around(model).bind_tools([{"name": "look"}]).invoke([ask()])
    assert message.tool_calls[0]["args"] == {"at": FALSE}
    assert message.response_metadata["grounding"]["decision"] == "flagged"
