"""Runs one call of a chain or an agent, with or without a policy, as a sequence of events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.adapters.prompt_memo import CoreMessages, Message, current_prompts
from saliency_guard.adapters.report import ReportDetail, answer_report
from saliency_guard.adapters.settings import Request
from saliency_guard.answer import GroundedAnswer, TokenGrounding, Usage
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.guard.outcome import Attempt, GuardOutcome
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.guard.structured import ReadFields, call_fields
from saliency_guard.lvlm import LVLM


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    Attributes:
        text: the text to show.
        answer: the answer with its tokens; None for a fallback's plain text.
        outcome: what the policy decided; None without a policy.
        considered: every answer that was written for it.
    """

    text: str
    answer: GroundedAnswer | None
    outcome: GuardOutcome | None
    considered: tuple[GroundedAnswer, ...]

    def report(self, detail: ReportDetail = "summary") -> dict[str, Any]:
        """The report of its grounding, as plain Python values; see `answer_report`."""
        return answer_report(self.answer, self.outcome, detail=detail)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together: that is what was computed."""
        prompt = sum(answer.usage.prompt_tokens for answer in self.considered)
        completion = sum(answer.usage.completion_tokens for answer in self.considered)
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


RunEvent = TokenGrounding | Attempt | Finished


def run_events(
    lvlm: LVLM,
    messages: Messages | PreparedPrompt,
    generation: Mapping[str, Any],
    *,
    cancel: threading.Event,
    policy: GuardPolicy | None = None,
    live: bool = True,
    fields: ReadFields | None = None,
) -> Generator[RunEvent, None, None]:
    """Tokens as they are written, or under a policy attempts as they are made; the end last.

    Concurrent calls are answered side by side.

    Args:
        lvlm: the model that answers.
        messages: as for `LVLM.generate`; a policy needs the messages themselves, not a prepared prompt.
        generation: see `GenerationOptions`; ``timeout`` is for all attempts together.
        cancel: stops the work between two tokens once it is set.
        policy: decides on the answer; None gives out every token as it is written.
        live: whether tokens are wanted before the end; without, they all come at the end, which costs less.
        fields: what of an answer a policy judges; as for `GuardPolicy.steps`.

    Raises:
        DeadlineError: if the timeout passes.
        CancelledError: if ``cancel`` is set.
        LowGroundingError: by the policy.
    """
    if policy is None and live:
        for step in lvlm.stream(messages, cancel=cancel, **generation):
            if step.answer is not None:
                yield finished(step.answer)
            elif step.token is not None:
                yield step.token
        return
    if policy is None:
        yield from answered(lvlm.generate(messages, cancel=cancel, **generation))
        return
    if isinstance(messages, PreparedPrompt):
        msg = "a policy needs the messages themselves, not a prepared prompt"
        raise TypeError(msg)
    considered: list[GroundedAnswer] = []
    for made in policy.steps(lvlm, messages, cancel=cancel, fields=fields, **generation):
        if isinstance(made, Attempt):
            considered.append(made.answer)
            yield made
        else:
            if made.decision == "not_applicable" and made.answer is not None:
                considered.append(made.answer)
            yield Finished(made.text, made.answer, made, tuple(considered))


def run_request(
    lvlm: LVLM,
    request: Request,
    chat: Sequence[Message],
    convert: Callable[[Sequence[Message]], CoreMessages],
    *,
    cancel: threading.Event,
    addition: str = "",
    live: bool = True,
) -> Generator[RunEvent, None, None]:
    """`run_events` for one call of a framework's model; inside of a guarded call its prompt is prepared once.

    Args:
        lvlm: the model that answers.
        request: what the call asks for.
        chat: the framework's messages.
        convert: makes the core's messages of them.
        cancel: as for `run_events`.
        addition: a sentence that a retry adds as a message of the user; empty where there is none.
        live: as for `run_events`.
    """
    memo = current_prompts()
    messages = memo.messages(chat, convert)
    if addition:
        messages = [*messages, {"role": "user", "content": [{"type": "text", "text": addition}]}]
    prompted = lvlm.with_tools(request.tools) if request.tools else lvlm
    # A prompt that nobody asks for again is prepared when it is its turn.
    is_shared = memo.is_shared and request.policy is None
    prompt = memo.prompt(lvlm, messages, request.tools) if is_shared else messages
    fields = fields_of(lvlm, request)
    policy = request.policy
    yield from run_events(prompted, prompt, request.generation, cancel=cancel, policy=policy, live=live, fields=fields)


def fields_of(lvlm: LVLM, request: Request) -> ReadFields | None:
    """What of an answer to a request a policy judges, where it may be a tool call; None where it is none."""
    if not request.tools and not request.forced:
        return None
    return call_fields(lvlm.tokenizer, was_forced=bool(request.forced))


def answered(answer: GroundedAnswer) -> Iterator[RunEvent]:
    """The events of an answer that was not streamed."""
    yield from map(as_streamed, answer.tokens)
    yield finished(answer)


def as_streamed(token: TokenGrounding) -> TokenGrounding:
    """A token as a stream gives it out: groundings and signals come with the finished answer."""
    return token.model_copy(update={"grounding": None, "signals": {}})


def finished(answer: GroundedAnswer) -> Finished:
    """The end of an answer that no policy decides on."""
    return Finished(answer.text, answer, None, (answer,))
