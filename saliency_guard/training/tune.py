"""Teach a model that sees to follow: ``python -m saliency_guard.training.tune --out DIR --pictures DIR``.

The projector and the language model go on from the earlier weights, with more tokens
(`saliency_guard.training.growth`), on the mixture of `saliency_guard.training.mixture`, about pictures that were drawn
before (`saliency_guard.training.shards`). The tower goes on with them, unless its rate is zero: then it stays as it is.

The run writes a checkpoint every few minutes and goes on from it when started again by the same command; pictures
that were added meanwhile are used from then on. The learning rate stays level until the last steps, and a running
mean of the weights is kept beside them: that mean is what is exported, at any time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.embedded.architecture import IMAGE_TOKENS, WIDTH
from saliency_guard.training.augment import jittered
from saliency_guard.training.growth import corpus, grown, grown_embeddings
from saliency_guard.training.mentions import COUNTS, MOST_PICTURES, STEPS
from saliency_guard.training.mixture import MIXTURE
from saliency_guard.training.packed import FLOAT32_ATTENTION, states
from saliency_guard.training.pictures import IGNORED, normalized
from saliency_guard.training.rows import ROWS, SheetBatches, Sheets, order
from saliency_guard.training.train import Trainee, save

_CORPUS = 1500
_LOGGED = 20
_TOWER = ".vision_tower."


@dataclass(frozen=True, slots=True)
class Tuning:
    """Everything that decides the weights, beside the pictures and the earlier model.

    Attributes:
        rows: of a batch, in the mean.
        tower_rate: the tower's learning rate, as a part of the others'.
    """

    seed: int = 0
    steps: int = 6000
    decay: int = 800
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    patch_weight: float = 0.1
    number_weight: float = 0.3
    mention_weight: float = 0.3
    mean: float = 0.997
    early: int = 0
    rows: int = ROWS
    tower_rate: float = 0.0

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, level, then a straight line to zero over the last ``decay`` steps."""
        return self.learning_rate * min(1.0, (step + 1) / 100, max(0.0, (self.steps - step) / self.decay))


class Follower(Trainee):
    """The model with what training adds to it.

    After the first layer a picture's tokens are to know which of the prompt's pictures they belong to: without this
    the model tells of all pictures when it is asked for one. Half-way up, the name of a thing is to know how many of it
    each picture shows and where it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokenizer)
        self.number = nn.Linear(WIDTH, MOST_PICTURES)
        self.counts = nn.Linear(WIDTH, MOST_PICTURES * COUNTS)
        self.where = nn.Linear(WIDTH, 2 * STEPS)

    def number_loss(self, hidden: Tensor, image_positions: Tensor) -> Tensor:
        """Cross-entropy of the number of each picture token's picture, in rows of several pictures.

        Args:
            hidden: ``[B, T, width]``.
            image_positions: ``[B, T]`` bool.
        """
        numbers = (image_positions.cumsum(1) - 1) // IMAGE_TOKENS
        several = image_positions & (image_positions.sum(1, keepdim=True) > IMAGE_TOKENS)
        if not several.any():
            return hidden.new_zeros(())
        return functional.cross_entropy(self.number(hidden[several]).float(), numbers[several])

    def mention_loss(self, hidden: Tensor, batch: Sheets) -> Tensor:
        """Cross-entropy of the labels of named things.

        Args:
            hidden: ``[B, T, width]``.
            batch: with ``mentioned`` and ``known``.
        """
        if not len(batch.known):
            return hidden.new_zeros(())
        at = hidden[batch.mentioned[:, 0], batch.mentioned[:, 1]]
        counts = self.counts(at).float().unflatten(-1, (MOST_PICTURES, COUNTS)).flatten(0, 1)
        loss = functional.cross_entropy(counts, batch.known[:, :MOST_PICTURES].flatten(), ignore_index=IGNORED)
        alone = batch.known[:, -1] != IGNORED
        if alone.any():
            places = self.where(at[alone]).float().unflatten(-1, (2, STEPS)).flatten(0, 1)
            loss = loss + functional.cross_entropy(places, batch.known[alone, MOST_PICTURES:].flatten())
        return loss

    def losses(self, batch: Sheets, pixels: Tensor, tuning: Tuning) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of a batch, whose pictures come as ``[P, 3, 128, 128]`` in -1..1.

        Returns:
            The loss; each answer token's own, with the number of its row; and those beside, in their weights' order.
        """
        inner = self.model.model
        embeds = self.model.get_input_embeddings()(batch.input_ids)
        patch = embeds.new_zeros(())
        image_positions = batch.input_ids == self.model.config.image_token_id
        if len(pixels):
            features = inner.multi_modal_projector(inner.vision_tower(pixels).last_hidden_state)
            patch, _ = self.patch_loss(features, batch.patches)
            embeds = embeds.masked_scatter(image_positions[..., None], features.to(embeds.dtype))
        answers = batch.labels[:, 1:] != -100
        wanted = functional.pad(answers, (0, 1))
        hidden, below = states(inner.language_model, embeds, batch.mask(embeds.dtype), batch.position_ids, wanted)
        logits = self.model.lm_head(hidden).float()
        each = functional.cross_entropy(logits, batch.labels[:, 1:][answers], reduction="none")
        number = self.number_loss(below[0], image_positions)
        mention = self.mention_loss(below[len(below) // 2], batch)
        beside = tuning.patch_weight * patch + tuning.number_weight * number + tuning.mention_weight * mention
        loss = each.mean() * batch.share + beside
        return loss, each.detach(), answers.nonzero()[:, 0], torch.stack((patch, number, mention)).detach()


def begin(ancestor: Path, tokenizer_folder: Path) -> tuple[Follower, PreTrainedTokenizerFast]:
    """The earlier model with the larger vocabulary; the tokenizer is made once and kept in its folder."""
    old = PreTrainedTokenizerFast.from_pretrained(ancestor)
    if not (tokenizer_folder / "tokenizer.json").exists():
        grown(old, corpus(_CORPUS)).save_pretrained(tokenizer_folder)
    new = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    follower = Follower(new)
    earlier: Any = LlavaForConditionalGeneration.from_pretrained(ancestor, dtype=torch.float32)
    state = earlier.state_dict()
    for name, value in state.items():
        if value.shape != follower.model.state_dict()[name].shape:
            state[name] = grown_embeddings(value, old, new)
    follower.model.load_state_dict(state)
    return follower, new


def parameter_groups(follower: Follower, tuning: Tuning) -> list[tuple[float, dict[str, Any]]]:
    """What is trained, in groups for the optimizer, each with its part of the learning rate."""
    groups: list[tuple[float, dict[str, Any]]] = []
    for in_tower, rate in ((False, 1.0), (True, tuning.tower_rate)):
        for decayed in (True, False):
            parameters = [
                parameter
                for name, parameter in follower.named_parameters()
                if parameter.requires_grad and (_TOWER in name) == in_tower and (parameter.ndim >= 2) == decayed
            ]
            if parameters:
                decay = tuning.weight_decay if decayed else 0.0
                groups.append((rate, {"params": parameters, "weight_decay": decay}))
    return groups


def averages(follower: Follower, tuning: Tuning) -> dict[str, Tensor]:
    """What a running mean is kept of, by name: all that changes, the tower's batch statistics included."""
    return {
        name: value
        for name, value in follower.state_dict().items()
        if value.is_floating_point() and (tuning.tower_rate or _TOWER not in name)
    }


def summary(sums: Tensor, beside: Tensor) -> dict[str, Any]:
    """For the log: the mean loss of answer tokens, of all and of each kind of text, and the last batch's losses beside.

    Args:
        sums: ``[2, kinds]``, the answer tokens' losses and how many there were.
        beside: ``[3]``.
    """
    total, count = sums.tolist()
    kinds = {part.name: round(a / b, 3) for part, a, b in zip(MIXTURE, total, count, strict=True) if b}
    shares = dict(zip(("patch", "number", "mention"), (round(x, 3) for x in beside.tolist()), strict=True))
    return {"loss": round(sum(total) / sum(count), 4), **shares, "kinds": kinds}


def save_checkpoint(
    checkpoint: Path, follower: Follower, optimizer: torch.optim.Optimizer, mean: dict[str, Tensor], step: int
) -> None:
    """Write all that a run goes on from; an interrupted write leaves the checkpoint before."""
    partial = checkpoint.with_suffix(".part")
    state = {"state": follower.state_dict(), "optimizer": optimizer.state_dict(), "mean": mean, "step": step}
    torch.save(state, partial)
    partial.replace(checkpoint)


def load_checkpoint(
    checkpoint: Path, follower: Follower, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], int]:
    """Put a run back to where it was; return the running mean of its weights, and the number of its steps."""
    state = torch.load(checkpoint, map_location=follower.background.device, weights_only=True)
    follower.load_state_dict(state["state"])
    optimizer.load_state_dict(state["optimizer"])
    return state["mean"], state["step"]


def tune(
    tuning: Tuning,
    out: Path,
    pictures: Path,
    *,
    ancestor: Path = EMBEDDED_PATH,
    device: str = "cpu",
    minutes_between_checkpoints: float = 4.0,
    workers: int = 1,
    half_precision: bool = False,
) -> None:
    """Run, or go on with, a run in ``out``; the finished model lies in ``out/model``.

    Args:
        tuning: what decides the weights.
        out: the run's folder.
        pictures: folder of the training pictures.
        ancestor: folder of the model to start from.
        device: ``"cpu"`` or ``"cuda"``.
        minutes_between_checkpoints: how much work an interruption may cost.
        workers: processes that make batches; 0 makes them here.
        half_precision: multiply matrices in bfloat16: faster on GPUs, and on CPUs that have instructions for it.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(tuning.seed)
    follower, tokenizer = begin(ancestor, out / "tokenizer")
    follower.to(device)
    if half_precision:
        follower.model.model.language_model.set_attn_implementation(FLOAT32_ATTENTION)
    if not tuning.tower_rate:
        follower.model.model.vision_tower.requires_grad_(requires_grad=False).eval()
    rates, groups = zip(*parameter_groups(follower, tuning), strict=True)
    optimizer = torch.optim.AdamW(groups, lr=tuning.learning_rate, betas=(0.9, 0.98), fused=device == "cuda")
    trained = [parameter for group in groups for parameter in group["params"]]
    averaged = averages(follower, tuning)
    mean = {name: value.clone() for name, value in averaged.items()}
    checkpoint, step = out / "checkpoint.pt", 0
    if checkpoint.exists():
        mean, step = load_checkpoint(checkpoint, follower, optimizer)
    batches = SheetBatches(tokenizer, pictures, seed=tuning.seed, early=tuning.early, rows=tuning.rows)
    dice = torch.Generator(device)
    print(json.dumps({"tuning": asdict(tuning), "from_step": step, "pictures": batches.available}), flush=True)
    saved = logged = time.monotonic()
    sums = torch.zeros(2, len(MIXTURE), device=device)
    loaded = DataLoader(
        batches,
        batch_size=None,
        sampler=order(step, tuning.steps, workers),
        num_workers=workers,
        prefetch_factor=12 if workers else None,
    )
    for drawn in loaded:
        batch = Sheets(*(getattr(drawn, each.name).to(device) for each in fields(Sheets)))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * tuning.learning_rate_at(step)
        pixels = jittered(normalized(batch.pixels), dice.manual_seed(tuning.seed * 1_000_000 + step))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half_precision):
            loss, each, rows, beside = follower.losses(batch, pixels, tuning)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        # Until there is something to average, the mean follows closely.
        weight = min(tuning.mean, step / (step + 10))
        torch._foreach_lerp_(list(mean.values()), [averaged[name] for name in mean], 1 - weight)
        kinds = batch.kinds[rows]
        sums[0].index_add_(0, kinds, each)
        sums[1].index_add_(0, kinds, torch.ones_like(each))
        if step % _LOGGED == 0:
            now = time.monotonic()
            print(json.dumps({"step": step, "seconds": round(now - logged, 1)} | summary(sums, beside)), flush=True)
            logged = now
            sums.zero_()
        if time.monotonic() - saved > 60 * minutes_between_checkpoints or step == tuning.steps:
            save_checkpoint(checkpoint, follower, optimizer, mean, step)
            saved = time.monotonic()
    export(out, ancestor)


def export(out: Path, ancestor: Path = EMBEDDED_PATH, model: Path | None = None) -> Path:
    """Write the running mean of a run's weights as a model; return its folder."""
    follower, tokenizer = begin(ancestor, out / "tokenizer")
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    follower.load_state_dict(state["mean"], strict=False)
    folder = model or out / "model"
    save(follower.model, tokenizer, folder)
    return folder


def main() -> None:
    """Parse the command line and train."""
    defaults = Tuning()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run folder; started again, the run goes on")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of saliency_guard.training.shards")
    parser.add_argument("--init", type=Path, default=EMBEDDED_PATH, help="folder of the model to start from")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument(
        "--decay", type=int, default=defaults.decay, help="last steps, over which the rate falls to zero"
    )
    parser.add_argument(
        "--early",
        type=int,
        default=defaults.early,
        help="first steps, with much to repeat: 1500 for a model that never learnt to",
    )
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument(
        "--tower-rate", type=float, default=defaults.tower_rate, help="the tower's part of it; 0: the tower stays"
    )
    parser.add_argument("--rows", type=int, default=defaults.rows, help="rows of a batch, in the mean")
    parser.add_argument("--mean", type=float, default=defaults.mean, help="decay of the weights' running mean")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches")
    parser.add_argument("--half-precision", action="store_true", help="multiply matrices in bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="only write the checkpoint's mean as a model")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.export:
        print(export(arguments.out, arguments.init))
        return
    tuning = Tuning(
        seed=arguments.seed,
        steps=arguments.steps,
        decay=arguments.decay,
        early=arguments.early,
        learning_rate=arguments.learning_rate,
        tower_rate=arguments.tower_rate,
        rows=arguments.rows,
        mean=arguments.mean,
    )
    tune(
        tuning,
        arguments.out,
        arguments.pictures,
        ancestor=arguments.init,
        device=arguments.device,
        workers=arguments.workers,
        half_precision=arguments.half_precision,
    )


if __name__ == "__main__":
    main()
