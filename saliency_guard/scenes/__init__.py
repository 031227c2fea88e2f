"""The picture world with exact ground truth: render, caption, question.

>>> from saliency_guard.scenes import render, sample_scene
>>> picture = render(sample_scene(7)).image
"""

from saliency_guard.scenes.scene import Rendering, Scene, SceneObject, render, sample_scene

__all__ = ["Rendering", "Scene", "SceneObject", "render", "sample_scene"]
