"""Many conversations answered side by side."""

from __future__ import annotations

from saliency_guard import LVLM
from saliency_guard.evaluation.world import pictures
from saliency_guard.training.prompts import answers, assistant, picture, system, user


def test_many_conversations_are_answered_as_each_alone(lvlm: LVLM) -> None:
    first, second = [each.image for each in pictures("development", 2)]
    conversations = [
        [user(picture(first), "Is there a dog in the image?")],
        [user(picture(second), "How many cats are there in the image?")],
        [user(picture(first), "What do you see?"), assistant("A dog."), user(picture(second), "Where is the dog?")],
        [system("Be brief."), user(picture(second), "Where is the dog?")],
    ]
    together = answers(lvlm, conversations, max_new_tokens=12)
    alone = [lvlm.generate(messages, max_new_tokens=12, saliency=None).text for messages in conversations]
    assert together == alone


def test_tools_are_told_to_their_own_conversation(lvlm: LVLM) -> None:
    (shown,) = [each.image for each in pictures("development", 1)]
    tool = {"type": "function", "function": {"name": "count_objects", "description": "Counts.", "parameters": {}}}
    question = [user(picture(shown), "Is there a dog in the image?")]
    with_tool, without = answers(lvlm, [question, question], max_new_tokens=12, tools=[[tool], []])
    assert without == answers(lvlm, [question], max_new_tokens=12)[0]
    assert with_tool == answers(lvlm, [question], max_new_tokens=12, tools=[[tool]])[0]


def test_a_string_is_a_part_of_a_message() -> None:
    assert user("Look.", {"type": "text", "text": "Now."})["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "text", "text": "Now."},
    ]
    assert [message["role"] for message in (system("a"), user("b"), assistant("c"))] == ["system", "user", "assistant"]
