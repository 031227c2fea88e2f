"""Decoded tokens become the pieces of an answer, until a stop string or the end token says it is over."""

from __future__ import annotations

from typing import Any, Literal

from saliency_guard.answer import TokenGrounding
from saliency_guard.chat import detokenize as text_module
from saliency_guard.decoding.decoder import DecodedToken
from saliency_guard.decoding.stop_strings import cut, may_have_begun, with_rest


class Writer:
    """One answer while it is being written.

    Args:
        tokenizer: reads the tokens.
        eos: ids after which nothing follows; they are no part of the answer.
        stops: strings at which the answer ends; nor are they.

    Attributes:
        done: the tokens given out so far.
        reason: why the answer is over.
        complete: whether it is, before its tokens ran out.
    """

    def __init__(self, tokenizer: Any, eos: frozenset[int], stops: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._eos = eos
        self._stops = stops
        self._detokenizer = text_module.Detokenizer(tokenizer)
        self._held: list[TokenGrounding] = []  # Given out once no stop string can begin in them.
        self._cut = False
        self.done: list[TokenGrounding] = []
        self.reason: Literal["stop", "length"] = "length"

    @property
    def complete(self) -> bool:
        """Whether the end token or a stop string has come."""
        return self.reason == "stop"

    def push(self, token: DecodedToken) -> list[TokenGrounding]:
        """The tokens that are ready to be given out now."""
        if token.token_id in self._eos:
            self.reason = "stop"
            return []
        text = self._detokenizer.push(token.token_id)
        self._held.append(self._with_text(token.grounding, text))
        self._held, self._cut = cut(self._held, self._stops)
        if self._cut:
            self.reason = "stop"
            return []
        free = 0 if self._detokenizer.pending else len(self._held) - may_have_begun(self._held, self._stops)
        return self._give(free)

    def finish(self) -> list[TokenGrounding]:
        """What is left when no more tokens come."""
        if not self._cut:
            self._held = with_rest(self._held, self._detokenizer.flush())
        return self._give(len(self._held))

    def _with_text(self, token: TokenGrounding, text: str) -> TokenGrounding:
        """A decoded token with its piece of the answer; the rejected candidates with their texts."""
        rejected = tuple(
            candidate.model_copy(update={"text": self._tokenizer.decode([candidate.token_id])})
            for candidate in token.rejected
        )
        position = len(self.done) + len(self._held)
        return token.model_copy(update={"text": text, "position": position, "rejected": rejected})

    def _give(self, count: int) -> list[TokenGrounding]:
        ready, self._held = self._held[:count], self._held[count:]
        self.done += ready
        return ready
