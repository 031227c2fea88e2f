from __future__ import annotations

import json
import random

from saliency_guard.chat.tools import in_words, parse_tool_calls
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import calls


def test_tools_are_told_as_the_package_tells_them() -> None:
    uses = calls.uses(random.Random(1), 3)
    tools = [{"type": "function", "function": use.tool.function()} for use in uses]
    message = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    told = in_words([message], tools)[0]
    assert told["role"] == "system"
    assert told["content"][0]["text"] == calls.told([use.tool for use in uses])


def test_a_call_is_read_back_and_its_arguments_stand_in_the_question() -> None:
    in_the_question = 0
    for seed in range(300):
        for use in calls.uses(random.Random(seed), 2):
            parsed = parse_tool_calls(calls.tagged(use))
            assert parsed.text == ""
            assert [(call.name, dict(call.arguments)) for call in parsed.calls] == [(use.tool.name, use.arguments)]
            assert set(use.arguments) == set(use.tool.parameters)
            for key, value in use.arguments.items():
                kinds = {"integer": int, "number": float, "string": str}
                assert isinstance(value, kinds[use.tool.parameters[key]])
                if use.tool.name not in {"count_objects", "find_object", "zoom_to", "draw_box", "crop"}:
                    assert str(value) in use.question, use
                    in_the_question += 1
    assert in_the_question > 100


def test_results_and_calls_stand_in_the_chat_as_the_package_writes_them() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 3}}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "f(3)?"}]},
        {"role": "assistant", "content": [], "tool_calls": [call]},
        {"role": "tool", "name": "f", "content": [{"type": "text", "text": "7"}]},
    ]
    written = ["".join(part["text"] for part in message["content"]) for message in in_words(messages, [])]
    use = calls.Use(calls.Tool("f", "", {"x": "integer"}), "f(3)?", {"x": 3})
    assert written[1] == calls.tagged(use)
    assert written[2].split(" f:")[0] == "Result of"
    sheets = [calls.choosing(sample_scene(seed), random.Random(seed)) for seed in range(80)]
    results = [[branch for branch in made.branches if "Result of" in branch.prompt] for made in sheets]
    assert sum(map(len, results)) > 40
    for branches in results:
        for branch in branches:
            said = branch.prompt.rsplit(": ", 1)[1].removesuffix("\nASSISTANT:\n")
            assert said.split(": ")[-1] in branch.answer


def test_a_forced_call_is_bare_and_its_beginning_is_not_learnt() -> None:
    forced = [
        branch
        for seed in range(60)
        for branch in calls.choosing(None, random.Random(seed)).branches
        if branch.answer.startswith("{")
    ]
    assert forced
    for branch in forced:
        assert set(json.loads(branch.answer)) == {"name", "arguments"}
        assert branch.silent == ((0, len('{"name": "')),)
