"""Train the embedded model: ``python -m saliency_guard.training.train --out DIR``.

Two stages in one run. First the vision tower and projector alone, with a label per patch whose
classifier is the language model's own embedding of the class name: a picture's tokens come to mean
what the words mean. Then everything, on captions and questions, with the patch labels still beside.

The run is fixed by its seed and step counts, writes a checkpoint every few minutes, and goes on from
it when started again. It uses a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from saliency_guard.embedded.architecture import IMAGE_TOKENS, build_model, build_processor
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.data import Batch, SceneBatches
from saliency_guard.training.tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 0
    vision_steps: int = 1500
    steps: int = 5000
    batch_size: int = 48
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    patch_weight: float = 0.5

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, flat, then a straight line to zero over the last third."""
        warm = min(1.0, (step + 1) / 150)
        decay = min(1.0, (self.steps - step) / (self.steps / 3))
        return self.learning_rate * warm * max(0.0, decay)


class Trainee(nn.Module):
    """The model and the one thing that training adds to it: the background's place among the classes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model: LlavaForConditionalGeneration = build_model(tokenizer)
        width = self.model.config.get_text_config().hidden_size
        self.background = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(len(CLASSES) + 1))
        # What a cell's place adds to its features is not held against it: else the labels would drive it out.
        self.place = nn.Parameter(torch.zeros(IMAGE_TOKENS, width))
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))
        names = [tokenizer.encode(f" {name}") for name in CLASSES]
        bag = torch.zeros(len(CLASSES), len(tokenizer))
        for row, ids in enumerate(names):
            for token in ids:
                bag[row, token] += 1 / len(ids)
        self.bag: Tensor
        self.register_buffer("bag", bag, persistent=False)

    def patch_loss(self, features: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the patch labels, and accuracy on patches that show a thing."""
        embeddings: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        # The words stay where language puts them: the picture has to come to them.
        words = self.bag @ embeddings.detach()
        classes = functional.normalize(torch.cat([words, self.background[None]]).float(), dim=-1)
        things_only = functional.normalize(features.float() - self.place, dim=-1)
        logits = things_only @ classes.T * self.sharpness.exp() + self.bias
        loss = functional.cross_entropy(logits.flatten(0, 1), patches.flatten(), ignore_index=-100)
        things = (patches >= 0) & (patches < len(CLASSES))
        return loss, (logits.argmax(-1) == patches)[things].float().mean()

    def forward(self, batch: Batch, patch_weight: float) -> dict[str, Tensor]:
        """Losses of one batch: ``loss``, ``patch``, ``patch_accuracy`` and, with text, ``text``."""
        inner = self.model.model
        features = torch.stack(list(inner.get_image_features(batch.pixels, return_dict=True).pooler_output))
        patch, accuracy = self.patch_loss(features, batch.patches)
        if batch.input_ids.shape[1] == 0:
            return {"loss": patch, "patch": patch, "patch_accuracy": accuracy}
        embeds = self.model.get_input_embeddings()(batch.input_ids)
        image_positions = (batch.input_ids == self.model.config.image_token_id)[..., None]
        embeds = embeds.masked_scatter(image_positions, features.to(embeds.dtype))
        hidden = inner.language_model(
            inputs_embeds=embeds,
            attention_mask=batch.mask(embeds.dtype),
            position_ids=batch.position_ids,
            use_cache=False,
        )[0]
        answers = batch.labels[:, 1:] != -100
        logits = self.model.lm_head(hidden[:, :-1][answers]).float()
        text = functional.cross_entropy(logits, batch.labels[:, 1:][answers])
        return {
            "loss": text + patch_weight * patch,
            "patch": patch,
            "patch_accuracy": accuracy,
            "text": text,
        }


def inherit(model: LlavaForConditionalGeneration, vocabulary: dict[str, int], ancestor: Path) -> list[str]:
    """Take over an earlier model's weights wherever name and shape agree; return the names of the rest."""
    if AutoTokenizer.from_pretrained(ancestor).get_vocab() != vocabulary:
        msg = f"{ancestor} has another vocabulary: its embeddings would stand for other words"
        raise ValueError(msg)
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(ancestor, dtype=torch.float32, output_loading_info=True)
    earlier, loading = loaded
    missing = set(loading["missing_keys"])
    old = {name: value for name, value in earlier.state_dict().items() if name not in missing}
    fresh: list[str] = []
    for name, value in model.state_dict().items():
        if name in old and old[name].shape == value.shape:
            value.copy_(old[name])
        else:
            fresh.append(name)
    return fresh


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: str,
    ancestor: Path | None = None,
    compiled: bool = False,
    minutes_between_checkpoints: float = 4.0,
) -> None:
    """Run, or go on with, a training run in ``out``; the finished model lies in ``out/model``.

    Args:
        recipe: what decides the weights.
        out: the run's folder.
        device: ``"cpu"`` or ``"cuda"``.
        ancestor: folder of an earlier model to start from.
        compiled: compile the two towers (needs a C++ compiler on a CPU; about a third faster).
        minutes_between_checkpoints: how much work an interruption may cost.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    tokenizer = train_tokenizer()
    torch.manual_seed(recipe.seed)
    trainee = Trainee(tokenizer)
    if ancestor is not None:
        fresh = inherit(trainee.model, tokenizer.get_vocab(), ancestor)
        print(
            json.dumps({"ancestor": str(ancestor), "fresh": sorted({name.split(".")[1] for name in fresh})}), flush=True
        )
    trainee.to(device)
    decayed = [p for p in trainee.parameters() if p.ndim >= 2]
    others = [p for p in trainee.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        trainee.load_state_dict(state["trainee"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    batches = DataLoader(
        SceneBatches(tokenizer, recipe.batch_size, step, recipe.steps, recipe.vision_steps),
        batch_size=None,
        num_workers=12 if device == "cuda" else 1,
        prefetch_factor=4,
    )
    if compiled:
        inner = trainee.model.model
        inner.vision_tower.compile()
        inner.language_model.compile(dynamic=True)
    print(json.dumps({"recipe": asdict(recipe), "from_step": step}), flush=True)
    saved = logged = time.monotonic()
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        moved = Batch(*(getattr(batch, name).to(device) for name in Batch.__slots__))
        # Half precision pays on a GPU; on most CPUs it is slower than float32.
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            losses = trainee(moved, recipe.patch_weight)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            now = time.monotonic()
            values = {name: round(value.item(), 4) for name, value in losses.items()}
            print(json.dumps({"step": step, "seconds": round(now - logged, 1), **values}), flush=True)
            logged = now
        if time.monotonic() - saved > 60 * minutes_between_checkpoints or step == recipe.steps:
            partial = checkpoint.with_suffix(".part")
            torch.save({"trainee": trainee.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
            partial.replace(checkpoint)
            saved = time.monotonic()
    save(trainee.model, tokenizer, out / "model")


def save(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model as transformers loads it: float16 on disk, float32 once loaded."""
    model.half().save_pretrained(out)
    build_processor(tokenizer).save_pretrained(out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and train."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run folder; started again, the run goes on")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--vision-steps", type=int, default=defaults.vision_steps)
    parser.add_argument("--steps", type=int, default=defaults.steps, help="all steps, the vision steps included")
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--init", type=Path, help="folder of an earlier model to start from")
    parser.add_argument("--compile", action="store_true", help="compile the model first")
    arguments = parser.parse_args()
    recipe = Recipe(
        seed=arguments.seed,
        vision_steps=arguments.vision_steps,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    train(recipe, arguments.out, device=arguments.device, ancestor=arguments.init, compiled=arguments.compile)


if __name__ == "__main__":
    main()
