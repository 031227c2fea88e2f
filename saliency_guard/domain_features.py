"""What the domain gate compares of each picture of a prompt: `Domain` says how usual it is."""

from __future__ import annotations

import torch
from PIL import ImageOps
from torch import Tensor

from saliency_guard.chat.messages import Conversation, chat_about
from saliency_guard.chat.template import PromptReader
from saliency_guard.models.picture_change import picture_changes
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import picture_features

_QUESTION = "?"
"""Beside the mirrored pictures: what is asked about them is never read."""


def domain_features(reader: PromptReader, session: Session, conversation: Conversation | None) -> Tensor:
    """``[pictures, D + RECOGNITION + 1]``: `picture_features`, and of each picture how it changes when it is mirrored.

    The last is NaN where the pictures themselves are not known. Without rows where the prompt was read without the
    states at its pictures.

    Args:
        reader: of the model's prompts.
        session: the prompt, read with the states at its pictures.
        conversation: its messages; None where they are not known.
    """
    features = picture_features(session)
    if not len(features):
        return features
    changes = session.picture_changes
    if changes is None:
        changes = torch.full((len(features),), torch.nan)
        if conversation is not None and len(conversation.images) == len(features) and session.image_states:
            mirrored = chat_about([ImageOps.mirror(image) for image in conversation.images], _QUESTION)
            prompt = reader.with_tools(()).prepare(mirrored)
            changes = picture_changes(
                reader.model, session.layout, session.image_states[0], prompt.inputs, prompt.layout
            )
            session.picture_changes = changes
    return torch.cat([features, changes[:, None]], dim=1)
