"""Answers in OpenAI's form, with what they rest on: whole, or in the pieces of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from saliency_guard.adapters.report import token_report
from saliency_guard.adapters.run import Finished
from saliency_guard.answer import TokenGrounding
from saliency_guard.chat.tools import read_calls
from saliency_guard.lvlm import LVLM
from saliency_guard.server.chat_body import ChatCall
from saliency_guard.server.record import new_id
from saliency_guard.server.top_logprobs import TopLogprobs
from saliency_guard.storage import json_value

_LEAST_LOGPROB = -9999.0
"""What OpenAI gives for a token that is next to impossible."""


@dataclass(frozen=True, slots=True)
class ChoiceWriter:
    """Puts one answer into OpenAI's form.

    Attributes:
        lvlm: the model.
        call: what was asked for.
        index: of the choice.
        alternatives: to every token; None where none are wanted.
    """

    lvlm: LVLM
    call: ChatCall
    index: int
    alternatives: TopLogprobs | None = None

    def choice(self, end: Finished) -> dict[str, Any]:
        """The whole answer."""
        said, report = self._said(end), self._report(end)
        choice = {
            "index": self.index,
            "message": {"role": "assistant", "content": said.content, "refusal": None, **said.calls_of_message()},
            "finish_reason": said.finish_reason,
            "logprobs": self._logprobs(said.tokens, report) if self.call.logprobs else None,
            "grounding": report,
        }
        return {**choice, "token_ids": _ids(said.tokens)} if self.call.token_ids else choice

    def first(self) -> dict[str, Any]:
        """The piece that begins a stream."""
        return self._piece({"role": "assistant", "content": ""})

    def piece(self, token: TokenGrounding) -> dict[str, Any]:
        """A token that was just written."""
        return self._piece({"content": token.text}, [token])

    def rest(self, end: Finished) -> Iterator[dict[str, Any]]:
        """What is left to send at the end: the answer where it was held back, and its report."""
        said, report = self._said(end), self._report(end)
        if not self.call.live:
            if said.content and not said.calls and said.tokens:
                yield from (self.piece(token) for token in said.tokens)
            else:
                calls = [{"index": index, **call} for index, call in enumerate(said.calls)]
                delta = {"content": said.content, **({"tool_calls": calls} if calls else {})}
                yield self._piece(delta, said.tokens)
        last = self._piece({}, finish_reason=said.finish_reason) | {"grounding": report}
        if self.call.logprobs:
            last["logprobs"] = self._logprobs([], report)
        yield last

    def _piece(
        self, delta: dict[str, Any], tokens: Sequence[TokenGrounding] = (), *, finish_reason: str | None = None
    ) -> dict[str, Any]:
        piece: dict[str, Any] = {
            "index": self.index,
            "delta": delta,
            "finish_reason": finish_reason,
            "logprobs": None,
        }
        if self.call.logprobs and tokens:
            piece["logprobs"] = {"content": [self._entry(token) for token in tokens], "refusal": None}
        return {**piece, "token_ids": _ids(tokens)} if self.call.token_ids else piece

    def _logprobs(self, tokens: Sequence[TokenGrounding], report: dict[str, Any]) -> dict[str, Any]:
        """Log-probabilities; with the report, as some clients keep nothing else of a choice."""
        content = [self._entry(token) for token in tokens]
        return {"content": content, "refusal": None, "grounding": report}

    def _entry(self, token: TokenGrounding) -> dict[str, Any]:
        known = self.alternatives.at(token.position) if self.alternatives is not None else []
        decode = self.lvlm.tokenizer.decode
        return {
            **_logprob(token.text, token.logprob),
            "top_logprobs": [_logprob(decode([token_id]), logprob) for token_id, logprob in known],
            "grounding": json_value(token_report(token)),
        }

    def _report(self, end: Finished) -> dict[str, Any]:
        report: dict[str, Any] = json_value(end.report(self.call.report))
        return report

    def _said(self, end: Finished) -> _Said:
        """What an answer says: its text, and the calls that are in it."""
        answer, request = end.answer, self.call.request
        if answer is None or answer.text != end.text:  # The text is a policy's, no model's.
            return _Said(end.text, "stop")
        if not (request.tools or request.forced):
            return _Said(end.text, answer.finish_reason, answer.tokens)
        ids = _ids(answer.tokens)
        parsed = read_calls(answer.text, ids, self.lvlm.tokenizer, was_forced=bool(request.forced))
        made = parsed.calls[:1] if self.call.single_call else parsed.calls
        calls = [
            {
                "id": new_id("call"),
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in made
        ]
        text = "\n".join(piece for piece in (parsed.text, *parsed.malformed) if piece)
        return _Said(
            text or ("" if not calls else None), "tool_calls" if calls else answer.finish_reason, answer.tokens, calls
        )


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer taken apart.

    Attributes:
        content: its text; None beside tool calls.
        finish_reason: in OpenAI's words.
        tokens: it is made of; none where the text is a policy's.
        calls: the tools to call.
    """

    content: str | None
    finish_reason: str
    tokens: Sequence[TokenGrounding] = ()
    calls: list[dict[str, Any]] = field(default_factory=list)

    def calls_of_message(self) -> dict[str, Any]:
        return {"tool_calls": self.calls} if self.calls else {}


def _ids(tokens: Sequence[TokenGrounding]) -> list[int]:
    return [token.token_id for token in tokens]


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, _LEAST_LOGPROB), "bytes": list(text.encode())}
