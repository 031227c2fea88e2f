"""Structured answers of a policy's own model: every field is a claim, or the answer is not judged and says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forced_text import Writes

from saliency_guard import LVLM, GroundedAnswer, GuardOutcome, GuardPolicy, LowGroundingError
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.structured import call_fields, judged_by_fields, object_fields

TRUE, FALSE = "There is a cup.", "There is an elephant."
POLICY = GuardPolicy(min_grounding=0.5)


def said(lvlm: LVLM, text: str) -> GroundedAnswer:
    """An answer of these words; nothing is known of it."""
    ids = lvlm.tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = [
        {"text": lvlm.tokenizer.decode([token]), "token_id": token, "position": place, "logprob": 0.0, "saliency": None}
        for place, token in enumerate(ids)
    ]
    usage = {"prompt_tokens": 0, "completion_tokens": len(ids), "total_tokens": len(ids)}
    return GroundedAnswer.model_validate(
        {"text": text, "tokens": tokens, "finish_reason": "stop", "usage": usage, "model_id": "none"}
    )


def run(lvlm: LVLM, messages: Any, text: str, policy: GuardPolicy = POLICY, **options: Any) -> GuardOutcome:
    """The model writes a JSON object under a policy."""
    schema = {"type": "object", "additionalProperties": True}
    return policy.run(lvlm, messages, json_schema=schema, logits_processor=Writes(lvlm.tokenizer, text), **options)


def test_every_field_is_judged_as_a_sentence(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    text = json.dumps({"caption": TRUE})
    outcome = run(lvlm, messages, text)
    expected = lvlm.score(messages, TRUE)
    assert (outcome.decision, outcome.text) == ("accepted", text)
    assert outcome.answer is not None
    assert outcome.answer.text == "".join(token.text for token in outcome.answer.tokens) == text
    assert outcome.score == pytest.approx(expected.grounding, abs=1e-4)
    (claim,), (alone,) = outcome.answer.claims, expected.claims
    assert (claim.text, claim.kind) == (alone.text, alone.kind)
    assert outcome.answer.text[slice(*claim.span)] == claim.text == "cup"
    decides = [token for token in outcome.answer.tokens if token.grounding is not None]
    assert [(token.text.strip(), token.grounding) for token in decides] == [("cup", claim.grounding)]


def test_one_false_field_is_enough(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    text = json.dumps({"caption": TRUE, "more": [{"caption": FALSE}]})
    assert run(lvlm, messages, text).decision == "flagged"
    with pytest.raises(LowGroundingError):
        run(lvlm, messages, text, POLICY.model_copy(update={"on_low": "raise"}))


def test_an_object_is_not_cut_up(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    """What is left of a repaired object would not fit its schema."""
    text = json.dumps({"caption": FALSE})
    outcome = run(lvlm, messages, text, POLICY.model_copy(update={"on_low": "repair"}))
    assert (outcome.decision, outcome.text) == ("flagged", text)


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (json.dumps({"caption": TRUE, "where": "left"}), {}, "kind that the calibration does not cover"),
        (json.dumps({"caption": TRUE, "count": 4}), {}, "kind that the calibration does not cover"),
        (json.dumps({"caption": TRUE}), {"max_new_tokens": 4}, "JSON"),
    ],
)
def test_what_cannot_be_judged_says_so(
    lvlm: LVLM, messages: list[dict[str, Any]], text: str, options: dict[str, Any], reason: str
) -> None:
    outcome = run(lvlm, messages, text, **options)
    assert (outcome.decision, outcome.score, outcome.passes) == ("unscored", None, False)
    assert reason in (outcome.reason or "")
    with pytest.raises(LowGroundingError, match=reason):
        run(lvlm, messages, text, POLICY.model_copy(update={"unscored": "raise"}), **options)


def test_an_object_that_says_nothing_is_refused(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    outcome = run(lvlm, messages, json.dumps({"caption": None}))
    assert (outcome.decision, outcome.attempts[0].refused) == ("flagged", "the answer is empty")


def test_without_a_policy_an_object_has_no_number(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    writes = Writes(lvlm.tokenizer, json.dumps({"caption": TRUE}))
    answer = lvlm.generate(messages, json_schema={"type": "object"}, logits_processor=writes)
    assert (answer.grounding, answer.calibrated) == (None, False)
    assert "JSON" in (answer.grounding_reason or "")
    assert all(claim.grounding is None for claim in answer.claims)
    assert answer.tokens[1].saliency is not None


def test_both_values_of_a_key_that_stands_there_twice_are_said(lvlm: LVLM) -> None:
    assert object_fields(said(lvlm, '{"a": "A dog is here", "a": "No dog is here"}')).values == (
        "A dog is here",
        "No dog is here",
    )
    assert object_fields(said(lvlm, '{"a": "A dog')) == JudgedText('{"a": "A dog')


def test_calls_say_their_arguments(lvlm: LVLM) -> None:
    read = call_fields(lvlm.tokenizer, was_forced=False)
    call = '<tool_call>{"name": "look", "arguments": %s}</tool_call>'
    assert read(said(lvlm, "Look! " + call % '{"where": "left"}')) == JudgedText.of("Look!", {"where": "left"})
    assert read(said(lvlm, call % "{}")) is None
    assert read(said(lvlm, "A dog.")) == JudgedText("A dog.")
    malformed = read(said(lvlm, "<tool_call>look left</tool_call>"))
    assert malformed is not None
    assert malformed.fields == ("look left.",)
    forced = call_fields(lvlm.tokenizer, was_forced=True)
    assert forced(said(lvlm, '{"name": "look", "arguments": {"where": "left"}}')) == JudgedText.of(
        "", {"where": "left"}
    )


@pytest.mark.parametrize(
    ("text", "said_so", "words"),
    [
        ('{"cup": "A cup is here.", "b": ["A cup!"]}', JudgedText.of("", "A cup is here.", "A cup!"), "cup"),
        ('{"a": "A \\u0063up \\"x\\" is here."}', JudgedText.of("", {"a": 'A cup "x" is here.'}), None),
        (
            'There is a cup. {"name": "A cup", "arguments": {"a": "A book is here."}}',
            JudgedText.of("There is a cup.", {"a": "A book is here."}),
            None,
        ),
    ],
)
def test_claims_stand_where_their_words_are(
    lvlm: LVLM, messages: list[dict[str, Any]], text: str, said_so: JudgedText, words: str | None
) -> None:
    answer = judged_by_fields(said(lvlm, text), said_so, lvlm.score(messages, said_so.text))
    assert answer.claims
    assert all(text[slice(*claim.span)] == claim.text for claim in answer.claims)
    if words is not None:
        assert [claim.text for claim in answer.claims] == [words] * len(answer.claims)
    assert [text[: claim.span[0]].count('"') for claim in answer.claims] == sorted(
        text[: claim.span[0]].count('"') for claim in answer.claims
    )
