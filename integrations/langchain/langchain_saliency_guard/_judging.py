"""Answers of any chat model, judged by a local vision-language model under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message

from langchain_saliency_guard._messages import to_core
from langchain_saliency_guard._report import GROUNDING
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM
from saliency_guard import LVLM, ConfigError, GroundedAnswer, GuardPolicy

Scorer = SaliencyGuardedLVLM | LVLM | str


class Judge:
    """Scores answers with a local model.

    Args:
        scorer: a chat model of ours, a loaded `saliency_guard.LVLM`, or the name of a model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.model = SaliencyGuardedLVLM(model=scorer) if isinstance(scorer, str) else scorer

    @property
    def lvlm(self) -> LVLM:
        """The loaded model."""
        return self.model if isinstance(self.model, LVLM) else self.model.engine()

    def core_messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        """Messages as the core takes them."""
        fetch = None if isinstance(self.model, LVLM) else self.model.fetch_image
        return to_core(messages, fetch_image=fetch)

    def score(self, messages: list[dict[str, Any]], text: str, policy: GuardPolicy) -> GroundedAnswer:
        """What a text rests on, with all that a policy looks at.

        Args:
            messages: what it answers, as the core takes them.
            text: the answer; empty text rests on nothing and is scored as nothing.
            policy: whose calibrator and rules decide what is looked at.
        """
        return self._for(policy).score(messages, text, signals=_wanted(policy))

    def write(self, messages: list[dict[str, Any]], policy: GuardPolicy, *, max_new_tokens: int) -> GroundedAnswer:
        """An answer of the model's own, plainly written, with all that a policy looks at."""
        return self._for(policy).generate(
            messages, max_new_tokens=max_new_tokens, sgrs=None, locore=None, signals=_wanted(policy)
        )

    def _for(self, policy: GuardPolicy) -> LVLM:
        return self.lvlm if policy.calibrator is None else self.lvlm.with_calibrator(policy.calibrator)


def _wanted(policy: GuardPolicy) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for rule in policy.rules for name in rule.wanted))


def as_answer(answer: Any) -> AIMessage:
    """A message, a chunk or a text as an answer.

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(answer, AIMessageChunk):
        answer = message_chunk_to_message(answer)
    if isinstance(answer, AIMessage):
        return answer
    if isinstance(answer, (BaseMessage, str)):
        return AIMessage(answer if isinstance(answer, str) else answer.text)
    msg = f"the answer is to be a message or a text, not {type(answer).__name__}"
    raise ConfigError(msg)


def says_something(message: AIMessage) -> bool:
    """Whether a message is an answer: not a call of a tool, and not empty."""
    return not message.tool_calls and bool(message.text.strip())


def with_report(message: AIMessage, report: dict[str, Any], text: str | None = None) -> AIMessage:
    """A copy of a message that says what it rests on.

    Args:
        message: it is left as it is: caches hand out the same one again.
        report: of its grounding.
        text: to say instead.
    """
    update: dict[str, Any] = {"response_metadata": {**message.response_metadata, GROUNDING: report}}
    if text is not None and text != message.text:
        update["content"] = text
    return message.model_copy(update=update)
