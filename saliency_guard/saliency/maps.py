"""The full matrices of Eq. 3 to 5 for one token, for people who want to look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.errors import InputError
from saliency_guard.models.attention import Tape
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.forward import check_supported, run_whole
from saliency_guard.models.inputs import answer_tensor, unpadded
from saliency_guard.models.layers import target_layers
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig, chosen_config
from saliency_guard.saliency.equations import token_logprobs, unit, weight_gradient, whole_gradients


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyMap:
    """Eq. 3 to 5 in full for one token, over the sequence that predicts it.

    Attributes:
        layers: the layer index of each entry along the first dimension below; those that look along the sequence.
        gradient: ``[layers, H, T, T]`` Eq. 3.
        saliency: ``[layers, H, T, T]`` Eq. 4: ``tril(abs(A * gradient))``.
        normalized: ``[layers, T, T]`` Eq. 5: mean over heads, divided by the configured L2 norm.
        layout: which position belongs to which source.
    """

    layers: tuple[int, ...]
    gradient: Tensor
    saliency: Tensor
    normalized: Tensor
    layout: PromptLayout

    def plot(self, layer: int | None = None, head: int | None = None) -> Any:
        """A picture of the map: rows are queries, columns keys, with lines between the sources.

        Args:
            layer: an entry of ``layers``; None is the mean over all of them.
            head: of the layer, by Eq. 4; None is Eq. 5, over all heads.

        Returns:
            A `matplotlib.figure.Figure`; notebooks show it by themselves.

        Raises:
            ConfigError: if there is no such layer or head, or a head without a layer.
            MissingExtraError: without the extra ``plot``.
        """
        from saliency_guard.saliency.map_plots import plot_map  # noqa: PLC0415 - needs an extra

        return plot_map(self, layer, head)

    def plot_heads(self, source: str = "image_0") -> Any:
        """How much of what the target's row looks at lies on a source: one cell for each layer and head.

        Args:
            source: one of ``layout.sources``.

        Returns:
            A `matplotlib.figure.Figure`; notebooks show it by themselves.

        Raises:
            ConfigError: if there is no such source.
            MissingExtraError: without the extra ``plot``.
        """
        from saliency_guard.saliency.map_plots import plot_heads  # noqa: PLC0415 - needs an extra

        return plot_heads(self, source)


@uninterrupted()
def saliency_map(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    answer_ids: Tensor | Sequence[int],
    target: int,
    *,
    saliency: SaliencyConfig | None = None,
    locore: LocoREConfig | None = None,
    config: SaliencyConfig | None = None,
) -> SaliencyMap:
    """The full matrices of Eq. 3 to 5 for one token of an answer.

    Args:
        model: as for `score_answer`.
        inputs: as for `score_answer`.
        answer_ids: the answer, up to the target at least.
        target: index of the token in the answer whose loss is taken; negative counts from the end.
        saliency: target layers and norm.
        locore: the gains in force.
        config: another name of ``saliency``.

    Raises:
        InputError: if the answer has no such token; otherwise as `score_answer`.
    """
    config = chosen_config(saliency, config)
    answer = answer_tensor(answer_ids, model)
    if not isinstance(target, int) or not -len(answer) <= target < len(answer):
        msg = f"target {target} is not a token of an answer of {len(answer)} tokens"
        raise InputError(msg)
    answer = answer[: target % len(answer) + 1]
    check_supported(model, locore)
    inputs = unpadded(inputs)
    layout = prompt_layout(model.config, inputs)
    tape = Tape(target_layers(model, config.layers), whole=True)
    logits = run_whole(model, inputs, answer.tolist(), tape, prompt_length=layout.length, locore=locore)
    gradients, scale = whole_gradients(tape, logits, len(answer) - 1, answer[-1].to(logits.device))
    sure = -torch.expm1(token_logprobs(logits[-1:], answer[-1:].to(logits.device)))  # 1 - p, left out above
    maps: list[Tensor] = []
    saliencies: list[Tensor] = []
    normalized: list[Tensor] = []
    along = [layer for layer in tape.layers if layer in tape.records and not tape.records[layer].across]
    for record, gradient in zip(tape.in_order(), gradients, strict=True):
        if record.across:  # Rows over pictures are no part of a square.
            continue
        direction = weight_gradient(record, gradient)[0] / scale
        maps.append(direction * sure)
        unscaled = (record.weights[0] * direction).abs().tril()
        saliencies.append(unscaled * sure)
        mean = unscaled.mean(dim=0)
        norm = mean.norm() if config.normalization == "matrix" else mean.norm(dim=-1, keepdim=True)
        normalized.append(unit(mean, norm))
    return SaliencyMap(
        layers=tuple(along),
        gradient=torch.stack(maps),
        saliency=torch.stack(saliencies),
        normalized=torch.stack(normalized),
        layout=layout,
    )
