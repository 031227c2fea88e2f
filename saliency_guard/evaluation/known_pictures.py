"""Pictures that many answers are about: read once, and again only the text behind them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from saliency_guard.chat.messages import chat_about
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.domain_features import domain_features
from saliency_guard.lvlm import LVLM
from saliency_guard.models.session import Session, blank_inputs
from saliency_guard.signals.trace import read_blank

_KEPT = 8
_QUESTION = "?"
"""What the pictures are read with, so that a record does not depend on those that were made before it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """Pictures that were read.

    Attributes:
        base: a prompt with them.
        domain: their `domain_features`.
        uniform: the same prompt with uniform pictures.
    """

    base: Session
    domain: Tensor
    uniform: Session


@dataclass(frozen=True, slots=True, eq=False)
class ReadPrompt:
    """A prompt with pictures that was read.

    Attributes:
        session: with the states at its pictures.
        domain: their `domain_features`.
        uniform: a prompt that begins as this one does, with uniform pictures.
    """

    session: Session
    domain: Tensor
    uniform: Session | None = None

    def blank(self, session: Session) -> Session:
        """The prompt of a session with uniform pictures."""
        if self.uniform is not None:
            continued = self.uniform.with_text(blank_inputs(session.inputs), session.layout)
            if continued is not None:
                return continued
        return read_blank(session)


class KnownPictures:
    """The pictures that were read last, for one thread.

    Args:
        lvlm: whose prompts they stand in; it must not change meanwhile.
    """

    def __init__(self, lvlm: LVLM) -> None:
        self._lvlm = lvlm
        self._kept: deque[_Pictures] = deque(maxlen=_KEPT)
        self._continues = True

    def read(self, prepared: PreparedPrompt) -> ReadPrompt:
        """A prompt with pictures; where they were read before, only its text is read.

        Args:
            prepared: the prompt, made of messages.
        """
        known = self._continued(prepared)
        if known is None and self._continues:
            self._read_pictures(prepared)
            known = self._continued(prepared)
            self._continues = known is not None
        if known is not None:
            return known
        session = Session(self._lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
        return ReadPrompt(session, domain_features(self._lvlm.reader, session, prepared.conversation))

    def _continued(self, prepared: PreparedPrompt) -> ReadPrompt | None:
        for pictures in self._kept:
            session = pictures.base.with_text(prepared.inputs, prepared.layout)
            if session is not None:
                return ReadPrompt(session, pictures.domain, pictures.uniform)
        return None

    def _read_pictures(self, prepared: PreparedPrompt) -> None:
        conversation = prepared.conversation
        assert conversation is not None  # noqa: S101 - the prompt was made of messages
        prompt = self._lvlm.prepare(chat_about(conversation.images, _QUESTION))
        base = Session(self._lvlm.model, prompt.inputs, layout=prompt.layout, with_image_states=True)
        inputs = blank_inputs(base.inputs)
        alike = (pictures.uniform for pictures in self._kept)
        uniform = next((kept for kept in alike if kept.shared_length(inputs, base.layout) is not None), None)
        if uniform is None:
            uniform = Session(self._lvlm.model, inputs, layout=base.layout)
        self._kept.appendleft(_Pictures(base, domain_features(self._lvlm.reader, base, conversation), uniform))
