"""What the domain gate compares of each picture of a prompt: `Domain` says how usual it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import ImageOps
from torch import Tensor

from saliency_guard.chat.images import LoadedImage
from saliency_guard.chat.messages import Conversation, chat_about
from saliency_guard.chat.template import PromptReader
from saliency_guard.models.entered_pictures import entered_pictures
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import Mirrored, picture_features, shows_changes

_QUESTION = "?"
"""Beside the mirrored pictures: what is asked about them is never read."""


def look_at_pictures(reader: PromptReader, prompts: Sequence[tuple[Session, Conversation | None]]) -> list[Tensor]:
    """What a model makes of the pictures of several prompts, side by side: `picture_features` of each.

    It is kept with the session, so that each is looked at once; not where its messages are unknown, since then nothing
    was mirrored.

    Args:
        reader: of the model's prompts.
        prompts: each read with the states at its pictures, and its messages.
    """
    waiting = [(session, conversation) for session, conversation in prompts if session.picture_features is None]
    looked = iter(_look(reader, waiting) if waiting else ())
    features: list[Tensor] = []
    for session, conversation in prompts:
        known = session.picture_features
        if known is None:
            known = next(looked)
            if conversation is not None and session.image_states:
                session.picture_features = known
        features.append(known)
    return features


def _look(reader: PromptReader, prompts: Sequence[tuple[Session, Conversation | None]]) -> list[Tensor]:
    shown = {number: reader.with_tools(()).prepare(chat) for number, chat in _mirrored(prompts).items()}
    entered = entered_pictures(reader.model, [(prompt.inputs, prompt.layout) for prompt in shown.values()])
    mirrored: list[Mirrored | None] = [None] * len(prompts)
    for (number, prompt), states in zip(shown.items(), entered, strict=True):
        mirrored[number] = Mirrored(states, prompt.layout)
    return picture_features([session for session, _ in prompts], mirrored)


def _mirrored(prompts: Sequence[tuple[Session, Conversation | None]]) -> dict[int, list[dict[str, Any]]]:
    """Messages with the pictures of a prompt mirrored, by its index, of all that can be looked at in the mirror."""
    return {
        number: chat_about([LoadedImage(ImageOps.mirror(image)) for image in conversation.images], _QUESTION)
        for number, (session, conversation) in enumerate(prompts)
        if conversation is not None
        and session.image_states
        and len(conversation.images) == len(session.layout.visual_sources)
        and shows_changes(session.model, session.layout)
    }


def domain_features(reader: PromptReader, session: Session, conversation: Conversation | None) -> Tensor:
    """`look_at_pictures` of one prompt: ``[pictures, D + RECOGNITION + 1]``."""
    (features,) = look_at_pictures(reader, [(session, conversation)])
    return features
