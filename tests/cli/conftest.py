from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, picture: Image.Image) -> Path:
    """A file with a picture of a scene."""
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    picture.save(path)
    return path
