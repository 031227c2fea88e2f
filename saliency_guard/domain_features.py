"""What the domain gate compares of each picture of a prompt: `Domain` says how usual it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import ImageOps
from torch import Tensor

from saliency_guard.chat.messages import Conversation, chat_about
from saliency_guard.chat.template import PromptReader
from saliency_guard.models.picture_change import entered_pictures, picture_changes, reads_changes
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import picture_features

_QUESTION = "?"
"""Beside the mirrored pictures: what is asked about them is never read."""


def look_in_mirror(reader: PromptReader, prompts: Sequence[tuple[Session, Conversation | None]]) -> None:
    """Find out how the pictures of several prompts change when they are mirrored: `Session.picture_changes`.

    It stays unknown where the pictures themselves are not known, and where the model does not show it.

    Args:
        reader: of the model's prompts.
        prompts: each read with the states at its pictures, and its messages.
    """
    waiting: list[Session] = []
    shown = []
    for session, conversation in prompts:
        if conversation is None or session.picture_changes is not None or not session.image_states:
            continue
        whole = len(conversation.images) == len(session.layout.visual_sources)
        if whole and reads_changes(session.model, session.layout):
            waiting.append(session)
            mirrored = chat_about([ImageOps.mirror(image) for image in conversation.images], _QUESTION)
            shown.append(reader.with_tools(()).prepare(mirrored))
    entered = entered_pictures(reader.model, [(prompt.inputs, prompt.layout) for prompt in shown])
    for session, prompt, others in zip(waiting, shown, entered, strict=True):
        assert session.image_states is not None  # noqa: S101 - else it would not wait
        session.picture_changes = picture_changes(
            session.model, session.layout, session.image_states[0], others, prompt.layout
        )


def domain_features(reader: PromptReader, session: Session, conversation: Conversation | None) -> Tensor:
    """``[pictures, D + RECOGNITION + 1]``: `picture_features`, and of each picture how it changes when it is mirrored.

    The last is NaN where that stays unknown (`look_in_mirror`). Without rows where the prompt was read without the
    states at its pictures.

    Args:
        reader: of the model's prompts.
        session: the prompt, read with the states at its pictures.
        conversation: its messages; None where they are not known.
    """
    features = picture_features(session)
    if not len(features):
        return features
    look_in_mirror(reader, [(session, conversation)])
    changes = session.picture_changes
    if changes is None:
        changes = torch.full((len(features),), torch.nan)
    return torch.cat([features, changes[:, None]], dim=1)
