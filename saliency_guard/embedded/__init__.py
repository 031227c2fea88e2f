"""The embedded model: architecture, vision tower, weights and card."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = "embedded"
"""The name of the default model, which is part of the package."""

EMBEDDED_PATH = Path(__file__).parent / "model"
"""Its folder. `LVLM.load` makes its vision tower known to transformers; whoever loads it otherwise imports
`saliency_guard.embedded.vision_tower` first."""
