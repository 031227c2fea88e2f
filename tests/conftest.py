from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import tiny
import torch
from hypothesis import settings
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from saliency_guard import LVLM
from saliency_guard.scenes.scene import render, sample_scene

# Many threads only wait for each other on models this small.
torch.set_num_threads(1)
disable_progress_bar()
# A time limit per example says how busy the machine is, nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(params=list(tiny.BUILDERS))
def case(request: pytest.FixtureRequest) -> tiny.Case:
    return tiny.build(request.param)


@pytest.fixture
def llava() -> tiny.Case:
    return tiny.build("llava-gqa")


@pytest.fixture(scope="session")
def lvlm() -> LVLM:
    return LVLM.load()


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    return render(sample_scene(2523), 224).image
