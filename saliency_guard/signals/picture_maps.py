"""For every token of an answer, how much each layer looks at each position of the pictures, by several measures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.layers import attention_layers
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import cotangents, layer_gradients, row_unit, weight_gradient
from saliency_guard.saliency.scoring import SCORED_TOGETHER
from saliency_guard.signals.combined_map import combined_map
from saliency_guard.signals.trace import AnswerTrace


@dataclass(frozen=True, slots=True, eq=False)
class PictureMaps:
    """Maps of an answer of N tokens over the I positions of all pictures, on the CPU in float32.

    Attributes:
        layers: the layers of ``attention`` and ``saliency``; those that look along the sequence.
        attention: ``[N, layers, I]`` attention of the row that predicts each token, mean over heads.
        saliency: ``[N, layers, I]`` Eq. 4 and 5 of that row: mean over heads, divided by the row's norm.
        mean_saliency: ``[N, I]`` the mean of ``saliency`` over the target layers.
        lens_layers: the states of ``lens``; 0 are the embeddings, k is what leaves layer k - 1.
        lens: ``[N, lens layers, I]`` the token's probability under the logit lens; 0 at positions that it was not
            applied to (see `AnswerTrace.lens_positions`), NaN where the model has no such lens.
        combined: ``[N, I]`` saliency and logit lens together, see `combined_map`; sums to 1.
        owners: the picture of each position.
    """

    layers: tuple[int, ...]
    attention: Tensor
    saliency: Tensor
    mean_saliency: Tensor
    lens_layers: tuple[int, ...]
    lens: Tensor
    combined: Tensor
    owners: tuple[str, ...]

    @property
    def mean_attention(self) -> Tensor:
        """``[N, I]`` mean over all layers."""
        return self.attention.mean(dim=1)

    @property
    def best_lens(self) -> Tensor:
        """``[N, I]`` largest over the layers."""
        return self.lens.amax(dim=1)


def picture_maps(session: Session, trace: AnswerTrace) -> PictureMaps:
    """The maps of a traced answer; it is run once more, with a backward pass.

    Args:
        session: its prompt, read; it stays as it is.
        trace: of the answer after it.

    Raises:
        UnsupportedModelError: if the prompt's pictures take no positions of its sequence.
    """
    positions = trace.image_positions
    if not len(positions):
        msg = "the pictures of this prompt take no positions of its sequence: there is no map of where a token looks"
        raise UnsupportedModelError(msg)
    layers = attention_layers(session.model)
    attention: list[Tensor] = []
    saliency: list[Tensor] = []
    along: tuple[int, ...] = ()
    first = 0
    twin = session.fork(locore=session.locore, layout=session.layout)
    for chunk in twin.run_pieces(trace.tokens, SCORED_TOGETHER, layers=layers):
        assert chunk.tape is not None  # noqa: S101 - layers were asked for
        records = chunk.tape.in_order()
        tokens = trace.tokens[first : first + chunk.rows].to(chunk.logits.device)
        gradients, _ = layer_gradients(chunk.logits, records, cotangents(chunk.logits, tokens), retain_graph=False)
        first += chunk.rows
        attention_rows: list[Tensor] = []
        saliency_rows: list[Tensor] = []
        for record, gradient in zip(records, gradients, strict=True):
            if record.across:
                continue
            columns = positions.to(record.weights.device)
            product = (record.weights * weight_gradient(record, gradient)).abs().mean(dim=1)
            attention_rows.append(record.weights.detach().mean(dim=1)[0][:, columns].float().cpu())
            saliency_rows.append(row_unit(product)[0][:, columns].float().cpu())
        along = tuple(layer for layer in layers if layer in chunk.tape.records and not chunk.tape.records[layer].across)
        attention.append(torch.stack(attention_rows, dim=1))
        saliency.append(torch.stack(saliency_rows, dim=1))
    rows = trace.rows[:, trace.layout.beside + positions.to(trace.rows.device)]
    return PictureMaps(
        layers=along,
        attention=torch.cat(attention),
        saliency=torch.cat(saliency),
        mean_saliency=rows.float().cpu(),
        lens_layers=trace.lens_layers,
        lens=_lens(trace, len(positions)),
        combined=combined_map(trace, range(len(trace.tokens))),
        owners=tuple(trace.layout.picture_owners),
    )


def _lens(trace: AnswerTrace, count: int) -> Tensor:
    known = trace.lens.exp().permute(2, 0, 1).float().cpu()  # [N, lens layers, lens positions]
    full = torch.zeros(*known.shape[:2], count)
    full[..., trace.lens_columns] = known
    return full
