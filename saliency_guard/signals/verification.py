"""Verification: the model's own probability that a statement is true, asked about without the answer before it.

An answer's later tokens follow from its earlier ones; a question of its own is answered from the picture alone. Asking
a model to check itself claim by claim: Chain-of-Verification (arXiv 2309.11495); the probability of the word instead of
the word: P(True) (arXiv 2207.05221).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saliency_guard.chat.images import LoadedImage
from saliency_guard.chat.messages import Conversation, chat
from saliency_guard.errors import ConfigError
from saliency_guard.settings import Probability, Settings

_WORD_MARKS = " \u2581\u0120\n\t"


_LANGUAGES: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "de": ("Stimmt das: {statement} Antworte mit ja oder nein.", ("ja",), ("nein",)),
    "es": ("¿Es verdad? {statement} Responde sí o no.", ("sí", "si"), ("no",)),
    "fr": ("Est-ce vrai : {statement} Réponds par oui ou non.", ("oui",), ("non",)),
    "it": ("È vero? {statement} Rispondi sì o no.", ("sì", "si"), ("no",)),
    "ja": ("これは正しいですか。{statement} はいかいいえで答えてください。", ("はい",), ("いいえ",)),
    "pt": ("Isto é verdade? {statement} Responda sim ou não.", ("sim",), ("não", "nao")),
    "zh": ("这句话对吗?{statement} 请回答是或否。", ("是", "对"), ("否", "不", "错")),
}
"""Questions, and words that say yes and no."""


class VerifyConfig(Settings):
    """How claims are verified.

    Attributes:
        question: what is asked; ``{statement}`` stands for the claim as a sentence.
        yes: words that say that a statement is true, of any language; tokens that spell one, in any case, with or
            without a space before it, count. Of a word that no token spells, the first piece of it.
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

    @classmethod
    def in_language(cls, code: str) -> VerifyConfig:
        """The question and its answers in another language; statements are put as they are.

        Args:
            code: one of ``"de"``, ``"es"``, ``"fr"``, ``"it"``, ``"ja"``, ``"pt"``, ``"zh"``, or ``"en"``, the default.

        Raises:
            ConfigError: for any other.
        """
        if code == "en":
            return cls()
        if code not in _LANGUAGES:
            msg = f"there is no question in the language {code!r}: write your own, or en, {', '.join(_LANGUAGES)}"
            raise ConfigError(msg)
        question, yes, no = _LANGUAGES[code]
        return cls(question=question, yes=yes, no=no)

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
        """The tokens of a vocabulary that spell one of the words; of a word that none spells, its first piece.

        A token that begins both a yes and a no says nothing.

        Raises:
            ConfigError: if no token says yes, or none says no.
        """
        words = {"yes": _folded(config.yes), "no": _folded(config.no)}
        spelled = _spelled(tokenizer, frozenset().union(*words.values()))
        ids: dict[str, set[int]] = {}
        for name, other in (("yes", "no"), ("no", "yes")):
            ids[name] = set().union(*(spelled.get(word, set()) for word in words[name]))
            for word in words[name] - spelled.keys():
                ids[name] |= _beginnings(tokenizer, word, words[other])
        both = ids["yes"] & ids["no"]
        for name, given in (("yes", config.yes), ("no", config.no)):
            if not ids[name] - both:
                msg = f"{name}={list(given)}: no token of the vocabulary spells one of these words"
                raise ConfigError(msg)
        return cls(tuple(sorted(ids["yes"] - both)), tuple(sorted(ids["no"] - both)), config.min_mass)

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


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.strip().casefold() for word in words if word.strip())


def _spelled(tokenizer: Any, words: Collection[str]) -> dict[str, set[int]]:
    """The tokens that spell each word; words that none spells are missing."""
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    spelled: dict[str, set[int]] = {}
    for token, index in vocabulary.items():
        word = token.strip(_WORD_MARKS).casefold()
        if word in words:
            spelled.setdefault(word, set()).add(index)
    # Vocabularies of bytes write letters beyond ASCII in a way of their own.
    for word in words:
        single = {ids[0] for ids in _encoded(tokenizer, word) if len(ids) == 1 and ids[0] != tokenizer.unk_token_id}
        if single:
            spelled.setdefault(word, set()).update(single)
    return spelled


def _beginnings(tokenizer: Any, word: str, others: Collection[str]) -> set[int]:
    """The first piece of a word's spellings, where it begins none of the other words, and few else.

    A single letter of an alphabet begins too many words.
    """
    pieces: set[int] = set()
    for ids in _encoded(tokenizer, word):
        piece = tokenizer.decode(ids[:1]).strip().casefold()
        telling = len(piece) > 1 or (len(piece) == 1 and not piece.isascii())
        if telling and word.startswith(piece) and not any(other.startswith(piece) for other in others):
            pieces.add(ids[0])
    return pieces


def _encoded(tokenizer: Any, word: str) -> list[list[int]]:
    """The ids of a word in small letters, with a capital and in capitals, alone and after a space."""
    texts = {f"{before}{form}" for form in (word, word.capitalize(), word.upper()) for before in ("", " ")}
    encoded = (tokenizer.encode(text, add_special_tokens=False) for text in sorted(texts))
    return [ids for ids in encoded if ids]


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
        return chat(LoadedImage(conversation.images[picture]), question)
    names = iter(text.source for text in conversation.texts)
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        parts = [(_shown_again(part), next(names) if part["type"] == "text" else None) for part in message["content"]]
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


def document_messages(conversation: Conversation, question: str, document: str) -> list[dict[str, Any]]:
    """A text document of a conversation by itself, and a question about it.

    Args:
        conversation: what was answered.
        question: what is asked instead.
        document: name of its texts.
    """
    texts = [part for part in conversation.texts if part.source == document]
    parts = [{"type": "text", "text": part.text, "source": document} for part in texts]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def _shown_again(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "image": LoadedImage(part["image"])} if part["type"] == "image" else part


def _holds(parts: Iterable[tuple[Mapping[str, Any], str | None]]) -> bool:
    """Whether parts of a message are evidence: a picture or a document."""
    return any(part["type"] == "image" or (name or "system") != "system" for part, name in parts)


def _last_user(messages: Sequence[Mapping[str, Any]]) -> int:
    return max((number for number, message in enumerate(messages) if message["role"] == "user"), default=0)


def _evidence(parts: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[Mapping[str, Any]]:
    """A message's pictures and named texts, with the plain texts that stand before the last of them."""
    last = max((index for index, each in enumerate(parts) if _holds([each])), default=-1)
    return [part for part, _ in parts[: last + 1]]
