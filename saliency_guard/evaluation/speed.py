"""The cost of grounding: every way of writing an answer is timed alternately with plain ``generate``, on one machine.

All of them read the same prompt and write the same number of tokens.
"""

from __future__ import annotations

import importlib
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.answer import TokenGrounding
from saliency_guard.calibration.features import FEATURE_SETS, features
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.evaluation.machine import Inputs, Way, forget_peak, median_ratio, peak, timed
from saliency_guard.evaluation.random_llava import llava_prompt, random_llava
from saliency_guard.models.entered_pictures import entered_pictures
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.prompt_batch import next_logits
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import Mirrored, picture_features
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import score_continuation
from saliency_guard.signals.trace import trace_answers

_NEVER = 1e-6
PLAIN = "plain generate (sdpa)"
READING = "reading the prompt"
GROUNDED = "with grounding"
VERIFIED = "with grounding, all claims verified"
CLAIMS, CLAIM_TOKENS = 10, 24
"""Number of claims in a caption of 64 tokens, and number of tokens after the picture in the question about a claim."""
TOGETHER = "batch of eight"
GROUNDED_TOGETHER = "batch of eight, with grounding"
BATCH = 8
VL_SALIENCY = "vl-saliency after generate"
"""Timed where that package is installed."""
RATES = (0.0, 0.02, 0.05, 0.1, 0.2)


@dataclass(slots=True, eq=False)
class ForcedDecoder(Decoder):
    """Rejects a fixed part of its positions, whatever their scores: to time a rate of rejections."""

    rate: float = field(default=0.0, kw_only=True)

    def rejects(self, token: TokenGrounding) -> bool:
        """A rejection drawn by position alone."""
        drawn = random.Random(f"refused {self.written}").random()
        return token.saliency is not None and drawn < self.rate


def _generate(model: PreTrainedModel, inputs: Inputs, tokens: int, **settings: Any) -> Tensor:
    written: Tensor = model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0, **settings
    )
    return written


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Run the decoder with eager attention, which returns its matrices."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})


def _with_attentions(model: PreTrainedModel, inputs: Inputs, tokens: int) -> None:
    with _eager(model):
        _generate(model, inputs, tokens, output_attentions=True, return_dict_in_generate=True)


def _decoded(
    model: PreTrainedModel, inputs: Inputs, tokens: int, *, locore: LocoREConfig | None = None, **rules: Any
) -> None:
    session = Session(model, inputs, locore=locore)
    for _ in ForcedDecoder(session, **rules).tokens(tokens):
        pass


def _scored_afterwards(model: PreTrainedModel, inputs: Inputs, tokens: int) -> None:
    session = Session(model, inputs)
    answer = [token.token_id for token in Decoder(session).tokens(tokens)]
    score_continuation(session, answer, SaliencyConfig())


_BLANKS = PromptCache(1)
"""The prefix of a blank picture is read once, as in `LVLM`; prompts are read again for every answer."""


def _gated(sessions: Sequence[Session]) -> None:
    """What the domain gate computes of prompts' pictures, once more in the mirror."""
    flipped = [{**each.inputs, "pixel_values": each.inputs["pixel_values"].flip(-1)} for each in sessions]
    prompts = [(inputs, each.layout) for inputs, each in zip(flipped, sessions, strict=True)]
    entered = entered_pictures(sessions[0].model, prompts)
    picture_features(sessions, [Mirrored(states, each.layout) for states, each in zip(entered, sessions, strict=True)])


def _grounded(model: PreTrainedModel, inputs: Inputs, tokens: int) -> None:
    """The work of a calibrated `LVLM`: write an answer, trace it once, and compute all features of a calibration."""
    _grounded_together(model, inputs, tokens, count=1)


def _grounded_together(
    model: PreTrainedModel, inputs: Inputs, tokens: int, *, count: int = BATCH, judged: bool = True
) -> None:
    sessions = [Session(model, inputs, with_image_states=judged) for _ in range(count)]
    answers: list[list[int]] = [[] for _ in sessions]
    for index, written in decode_together([Row(Decoder(session, keeps_states=False), tokens) for session in sessions]):
        answers[index] += [token.token_id for token in written]
    if judged:
        for trace in trace_answers(sessions, answers, SaliencyConfig(), read=_BLANKS.blank):
            features(trace, FEATURE_SETS["verified"])
        _gated(sessions)


def _verified(model: PreTrainedModel, inputs: Inputs, tokens: int) -> None:
    """`_grounded`, and a question about each of ten claims, on the cached picture."""
    session = Session(model, inputs, with_image_states=True)
    answer = [token.token_id for token in Decoder(session, keeps_states=False).tokens(tokens)]
    for trace in trace_answers([session], [answer], SaliencyConfig(), read=_BLANKS.blank):
        features(trace, FEATURE_SETS["verified"])
    _gated([session])
    ids, picture = inputs["input_ids"], session.layout.after_image
    generator = torch.Generator().manual_seed(0)
    prompts = []
    for _ in range(CLAIMS):
        words = torch.randint(10, 100, (1, CLAIM_TOKENS), generator=generator).to(ids.device)
        question = torch.cat([ids[:, :picture], words], dim=1)
        prompt = {**inputs, "input_ids": question, "attention_mask": torch.ones_like(question)}
        prompts.append((prompt, prompt_layout(model.config, prompt)))
    next_logits(session, prompts)


def _guarded(rate: float, draft_length: Any = "auto") -> Way:
    sgrs = SGRSConfig(alpha=_NEVER, draft_length=draft_length)
    return partial(_decoded, sgrs=sgrs, locore=LocoREConfig(), rate=rate)


def published(
    model: PreTrainedModel, inputs: Inputs, tokens: int, *, everything: bool = False
) -> list[tuple[int, float]]:
    """The published algorithm with its row corrected: the whole sequence forward and backward per candidate.

    One candidate a token, as if none were rejected; eager attention, every matrix in the graph, no cache.

    Args:
        model: what writes.
        inputs: one prompt.
        tokens: how many.
        everything: ``loss.backward()``, with the gradients of the weights, instead of the gradients of the
            target layers' attention alone.

    Returns:
        Each token and its Eq. 6 (NaN for the first), which the fast way has to reproduce.
    """
    written: list[tuple[int, float]] = []
    ids = inputs["input_ids"]
    upper = slice(math.floor(0.5 * model.config.get_text_config().num_hidden_layers), None)
    with _eager(model):
        for _ in range(tokens):
            with torch.enable_grad():
                whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
                output = model(**whole, output_attentions=True, use_cache=False)
                token = output.logits[0, -1].argmax()
                logits = output.logits[0, -1:]
                wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
                loss = torch.nn.functional.cross_entropy(wide, token[None])
                attentions = output.attentions[upper]
                gradients = _backward(model, loss, attentions) if everything else torch.autograd.grad(loss, attentions)
            start = inputs["input_ids"].shape[1]
            rows = [(a.detach() * g)[0, :, -1].abs().mean(0) for a, g in zip(attentions, gradients, strict=True)]
            score = torch.stack([(row / row.norm())[start:].mean() for row in rows]).mean()
            written.append((int(token), float(score)))
            ids = torch.cat([ids, token[None, None]], dim=1)
    return written


def _backward(model: PreTrainedModel, loss: Tensor, attentions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    for attention in attentions:
        attention.retain_grad()
    loss.backward()
    model.zero_grad(set_to_none=True)
    return tuple(attention.grad for attention in attentions if attention.grad is not None)


def _vl_saliency(model: PreTrainedModel, inputs: Inputs, tokens: int) -> None:
    """vl-saliency (PyPI) after plain ``generate``: one pass over everything, gradients of the summed loss."""
    extractor = importlib.import_module("vl_saliency").SaliencyExtractor  # Compared with where it is installed.
    written = _generate(model, inputs, tokens)
    processor = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0))
    with _eager(model):
        extractor(model, processor).capture(written, **inputs)
    model.zero_grad(set_to_none=True)


WAYS: MappingProxyType[str, Way] = MappingProxyType(
    {
        PLAIN: _generate,
        READING: lambda model, inputs, _: Session(model, inputs),
        "generate with output_attentions (eager)": _with_attentions,
        "LocoRE only": partial(_decoded, locore=LocoREConfig()),
        "generated, then scored": _scored_afterwards,
        "scored while generating": partial(_decoded, saliency=SaliencyConfig()),
        GROUNDED: _grounded,
        VERIFIED: _verified,
        TOGETHER: partial(_grounded_together, judged=False),
        GROUNDED_TOGETHER: _grounded_together,
        **{f"SGRS and LocoRE, {rate:.0%} rejected": _guarded(rate) for rate in RATES},
        "SGRS and LocoRE stepwise, 2% rejected": _guarded(0.02, 1),
        VL_SALIENCY: _vl_saliency,
    }
)
"""Ways of writing an answer, by the name they have in the table."""

PUBLISHED: MappingProxyType[str, Way] = MappingProxyType(
    {
        "published algorithm, row corrected, gradients of the target layers alone": published,
        "published algorithm, row corrected, loss.backward()": partial(published, everything=True),
    }
)
"""Ways that are timed for a single candidate: a whole answer would take too long."""


def installed(names: Sequence[str]) -> list[str]:
    """Those of the ways whose packages are installed."""
    return [name for name in names if name != VL_SALIENCY or find_spec("vl_saliency")]


@dataclass(frozen=True, slots=True)
class Timing:
    """One way of writing one answer.

    Attributes:
        name: of the way.
        prompt: positions of the prompt.
        tokens: of the answer.
        seconds: of every round.
        ratio: median over the rounds of its time to plain ``generate``'s in the same round.
        writing: the same of what is left without reading the prompt.
    """

    name: str
    prompt: int
    tokens: int
    seconds: tuple[float, ...]
    ratio: float
    writing: float

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def compare(
    model: PreTrainedModel,
    inputs: Inputs,
    tokens: int,
    names: Sequence[str],
    *,
    rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time several ways alternately, plain ``generate`` first in every round.

    Args:
        model: what writes.
        inputs: one prompt.
        tokens: how many each writes.
        names: of `WAYS`.
        rounds: how often.
        on_round: called after each.
    """
    names = list(dict.fromkeys([PLAIN, READING, *installed(names)]))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # Warm-up: kernels are chosen, and the memory of batches, and a GPU's, has been given once.
        long = name in {TOGETHER, GROUNDED_TOGETHER} or model.device.type == "cuda"
        WAYS[name](model, inputs, tokens if long else min(tokens, 8))
    for _ in range(rounds):
        for name in names:
            seconds[name].append(timed(partial(WAYS[name], model, inputs, tokens), model.device))
        on_round()
    prompt = inputs["input_ids"].shape[1]
    return [
        Timing(
            name,
            prompt,
            tokens,
            tuple(seconds[name]),
            median_ratio(seconds[name], seconds[PLAIN]),
            statistics.median(
                (taken - read) / (plain - read)
                for taken, plain, read in zip(seconds[name], seconds[PLAIN], seconds[READING], strict=True)
            ),
        )
        for name in names
    ]


def peak_memory(name: str, prompt: int, tokens: int, *, layers: int | None = None) -> int:
    """Peak memory of a way on the random LLaVA in bytes, measured in a separate process on the CPU.

    The C library is to give back what is freed: what it would keep for later differs from run to run.
    """
    arguments = f"{name!r}, {prompt}, {tokens}, layers={layers}"
    code = f"from saliency_guard.evaluation import speed; print(speed.measure_memory({arguments}))"
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - our own code
    return int(done.stdout.split()[-1])


def measure_memory(name: str, prompt: int, tokens: int, *, layers: int | None = None) -> int:
    """Peak memory of this process in bytes; `peak_memory` runs this."""
    model = random_llava(layers=layers)
    WAYS[name](model, llava_prompt(model, prompt), 2)  # Warm-up, so that one-time allocations do not count.
    forget_peak()
    WAYS[name](model, llava_prompt(model, prompt), tokens)
    return peak()


def gpu_memory(model: PreTrainedModel, name: str, prompt: int, tokens: int) -> int:
    """Peak memory of a way on the model's GPU in bytes, weights included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(model.device)
    WAYS[name](model, llava_prompt(model, prompt), tokens)
    return torch.cuda.max_memory_allocated(model.device)
