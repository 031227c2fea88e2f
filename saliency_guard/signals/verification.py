"""Verification: the model's own probability that a statement is true, asked about without the answer before it.

An answer's later tokens follow from its earlier ones; a question of its own is answered from the picture alone. Asking
a model to check itself claim by claim: Chain-of-Verification (arXiv 2309.11495); the probability of the word instead of
the word: P(True) (arXiv 2207.05221).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saliency_guard.chat.messages import Conversation, chat
from saliency_guard.errors import ConfigError
from saliency_guard.settings import Probability, Settings

_WORD_MARKS = " \u2581\u0120\n\t"


class VerifyConfig(Settings):
    """How claims are verified.

    Attributes:
        question: what is asked; ``{statement}`` stands for the claim as a sentence.
        yes: words that say that a statement is true; tokens that spell one, in any case, count.
        no: words that say that it is false.
        min_mass: the least probability that yes and no must have together: below it the model did not answer, and the
            claim is not verified.
        batch_size: how many claims are asked about side by side.
    """

    question: str = "Is this true: {statement} Answer yes or no."
    yes: tuple[str, ...] = ("yes",)
    no: tuple[str, ...] = ("no",)
    min_mass: Probability = 0.02
    batch_size: int = 8

    def put(self, statement: str) -> str:
        """The question about a statement.

        Raises:
            ConfigError: if ``question`` has no place for it.
        """
        if "{statement}" not in self.question:
            msg = f"question={self.question!r} has no place for the claim: write {{statement}} where it belongs"
            raise ConfigError(msg)
        return self.question.replace("{statement}", statement)


@dataclass(frozen=True, slots=True)
class Verbalizer:
    """The tokens that say yes and those that say no.

    Attributes:
        yes: ids.
        no: ids.
        min_mass: as in `VerifyConfig`.
    """

    yes: tuple[int, ...]
    no: tuple[int, ...]
    min_mass: float

    @classmethod
    def of(cls, tokenizer: Any, config: VerifyConfig) -> Verbalizer:
        """Every token of a vocabulary that spells one of the words, with or without a space before it.

        Raises:
            ConfigError: if no token says yes, or none says no.
        """
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        ids: dict[str, tuple[int, ...]] = {}
        for name, words in (("yes", config.yes), ("no", config.no)):
            spelled = {word.casefold() for word in words}
            ids[name] = tuple(
                sorted(index for token, index in vocabulary.items() if token.strip(_WORD_MARKS).casefold() in spelled)
            )
            if not ids[name]:
                msg = f"{name}={list(words)}: no token of the vocabulary spells one of these words"
                raise ConfigError(msg)
        return cls(ids["yes"], ids["no"], config.min_mass)

    def probability(self, logits: Tensor) -> float | None:
        """P(yes) of what follows a question, of yes and no alone; None where the model says neither.

        Args:
            logits: ``[V]``.
        """
        logprobs = torch.log_softmax(logits.detach().double(), dim=-1)
        yes = float(torch.logsumexp(logprobs[list(self.yes)], dim=0))
        no = float(torch.logsumexp(logprobs[list(self.no)], dim=0))
        if not math.exp(yes) + math.exp(no) >= self.min_mass:
            return None
        return 1.0 / (1.0 + math.exp(min(no - yes, 700.0)))


def verification_messages(
    conversation: Conversation, question: str, picture: int | None = None
) -> list[dict[str, Any]]:
    """A conversation up to its last picture, and a question of its own in place of what was asked.

    Later turns are left out, and so is the question itself; named texts (documents) stay.

    Args:
        conversation: what was answered.
        question: what is asked instead.
        picture: index of the one picture to show; None shows all, with what stands before them.
    """
    if picture is not None:
        return chat(conversation.images[picture], question)
    names = iter(text.source for text in conversation.texts)
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        parts = [(part, next(names) if part["type"] == "text" else None) for part in message["content"]]
        messages.append({**message, "content": parts})
    last = max(
        (number for number, message in enumerate(messages) if _holds(message["content"])),
        default=_last_user(messages),
    )
    kept = [{**message, "content": [part for part, _ in message["content"]]} for message in messages[:last]]
    return [
        *kept,
        {"role": "user", "content": [*_evidence(messages[last]["content"]), {"type": "text", "text": question}]},
    ]


def _holds(parts: Iterable[tuple[Mapping[str, Any], str | None]]) -> bool:
    """Whether parts of a message are evidence: a picture or a document."""
    return any(part["type"] == "image" or (name or "system") != "system" for part, name in parts)


def _last_user(messages: Sequence[Mapping[str, Any]]) -> int:
    return max((number for number, message in enumerate(messages) if message["role"] == "user"), default=0)


def _evidence(parts: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[Mapping[str, Any]]:
    """A message's pictures and named texts, with the plain texts that stand before the last of them."""
    last = max((index for index, each in enumerate(parts) if _holds([each])), default=-1)
    return [part for part, _ in parts[: last + 1]]
