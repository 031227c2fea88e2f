"""Requests for captions of the picture world, as benchmarks ask them: of other pictures than training's."""

from __future__ import annotations

from saliency_guard.chat.messages import chat
from saliency_guard.chat.template import Messages
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render, sample_scene

_FIRST_SCENE, _PICTURE = 2523, 224


def caption_chats(count: int) -> list[Messages]:
    """A chat about each of so many scenes; no two pictures are the same, so that no prompt is known from before."""
    scenes = range(_FIRST_SCENE, _FIRST_SCENE + count)
    return [chat(render(sample_scene(scene), _PICTURE).image, DESCRIBE) for scene in scenes]
