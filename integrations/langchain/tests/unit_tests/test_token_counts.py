"""Token counts: by the model's own tokenizer, with pictures, without the network."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import LVLM


def test_a_text_is_counted_by_the_model_s_tokenizer(model: SaliencyGuardedLVLM, lvlm: LVLM) -> None:
    text = "The image shows a cup."
    assert model.get_num_tokens(text) == len(lvlm.tokenizer.encode(text, add_special_tokens=False)) > 0


def test_messages_are_counted_with_their_pictures(model: SaliencyGuardedLVLM, ask: Any) -> None:
    counted = model.get_num_tokens_from_messages([ask()])
    assert counted == model.invoke([ask()]).usage_metadata["input_tokens"]  # type: ignore[index]
    words = HumanMessage("Describe the image in detail.")
    assert counted > model.get_num_tokens_from_messages([words]) > 0


def test_any_part_of_a_chat_is_counted(model: SaliencyGuardedLVLM) -> None:
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}])
    for part in (
        [AIMessage("A cup.")],
        [call],
        [call, ToolMessage("a table", tool_call_id="1")],
        [SystemMessage("Hm.")],
    ):
        assert model.get_num_tokens_from_messages(part) > 0
    assert model.get_num_tokens_from_messages([]) == 0


def test_trimming_trims(model: SaliencyGuardedLVLM, ask: Any) -> None:
    chat = [ask(), AIMessage("There is a cup."), HumanMessage("Where is it?"), AIMessage("On the left.")]
    room = model.get_num_tokens_from_messages(chat[2:])
    assert trim_messages(chat, max_tokens=room, token_counter=model, strategy="last") == chat[2:]
