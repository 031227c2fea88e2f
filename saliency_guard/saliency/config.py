"""What is read as saliency: the settings of Eq. 3 to 6."""

from __future__ import annotations

from typing import Literal

from saliency_guard.errors import ConfigError
from saliency_guard.models.layer_choice import LayerChoice
from saliency_guard.settings import Settings, require


class SaliencyConfig(Settings):
    """What is read as saliency.

    Attributes:
        layers: the target layers: two fractions of the depth as a tuple (half-open: ``a, b`` mean
            ``floor(a * L)`` to ``ceil(b * L) - 1``), or a list of layer indices.
        normalization: by what L2 norm a layer's saliency is divided (Eq. 5): its ``"row"``, as the
            released code does, or the whole ``"matrix"``, as the text reads (much dearer: every row of
            every layer is needed for every token; in scoring and maps only).
        history: the positions J of Eq. 6: the ``"output"`` so far, or all ``"after_image"``.
    """

    layers: LayerChoice = (0.5, 1.0)
    normalization: Literal["row", "matrix"] = "row"
    history: Literal["output", "after_image"] = "output"

    def require_rows(self) -> None:
        """Raise `ConfigError` for the norm of the matrix, where only single rows are at hand."""
        if self.normalization == "matrix":
            msg = (
                'normalization="matrix" needs a backward pass over the whole sequence for every token: use "row" while '
                'generating, in batches and for signals, and score a finished answer with "matrix"'
            )
            raise ConfigError(msg)


def chosen_config(saliency: SaliencyConfig | None, config: SaliencyConfig | None) -> SaliencyConfig:
    """The configuration that was given under either name, or the default.

    Raises:
        ConfigError: if two were given, or one is no `SaliencyConfig`.
    """
    require(SaliencyConfig, saliency, config)
    if saliency is not None and config is not None:
        msg = "saliency= and config= are two names of one setting: give one of them"
        raise ConfigError(msg)
    return saliency or config or SaliencyConfig()
