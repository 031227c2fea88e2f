"""What a family of models has to hold, each as a function of its name: `tests/families_matrix` runs all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import families
import oracle
import tiny
import torch
from family_parts import is_of_pictures, prefixed
from family_traces import traced
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, SuppressTokensLogitsProcessor

from saliency_guard import LocoREConfig, SaliencyConfig, SGRSConfig, score_answer, sgrs_generate
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.layers import attention_layers, target_layers
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import score_together

LENGTH = 7
NO_TEXT = sorted({tiny.IMAGE, *range(89, tiny.VOCABULARY)})
"""Tokens of pictures and of what surrounds them: the oracle would look for what they stand for."""


def outcome(case: tiny.Case, answer: list[int], locore: LocoREConfig | None = None) -> tuple[torch.Tensor, ...]:
    """Brute force: Eq. 6, log-probabilities, and the part of each row that lies on each position of the prompt."""
    prompt = case.inputs["input_ids"].shape[1]
    attending = list(attention_layers(case.model))
    layers = [attending.index(layer) for layer in target_layers(case.model, SaliencyConfig().layers)]
    gamma = locore and {"beta": locore.beta, "window": locore.window, "output_start": prompt}
    settings = locore and {"layers": attending, "gamma": gamma, "renormalize": True}
    scores, logprobs, rows = oracle.saliency(
        case.model, case.inputs, answer, layers=layers, start=prompt, locore=settings
    )
    return scores, logprobs, rows[:, :prompt] / rows.sum(-1, keepdim=True)


def across_outcome(case: tiny.Case, answer: list[int], locore: LocoREConfig | None = None) -> tuple[torch.Tensor, ...]:
    """The same where pictures are seen across: the last is the share of each picture."""
    prompt = case.inputs["input_ids"].shape[1]
    _, pictures, tiles = case.inputs["cross_attention_mask"].shape[1:]
    size = tiles * 5
    gamma = locore and {"beta": locore.beta, "window": locore.window, "output_start": prompt}
    return oracle.across(
        case.model,
        case.inputs,
        answer,
        layers=list(target_layers(case.model, SaliencyConfig().layers)),
        start=prompt,
        pictures=[(number * size, (number + 1) * size) for number in range(pictures)],
        locore=locore and {"layers": [0, 2, 4], "gamma": gamma, "renormalize": True},
    )


def agrees(name: str, case: tiny.Case, answer: list[int], scores: Any, locore: LocoREConfig | None = None) -> None:
    """Scores, log-probabilities and the shares of all pictures together are those of brute force."""
    if name in families.ACROSS:
        saliency, logprobs, shares = across_outcome(case, answer, locore)
        on_pictures = shares.sum(-1)
    else:
        saliency, logprobs, shares = outcome(case, answer, locore)
        on_pictures = shares[:, families.picture_positions(case)].sum(-1)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=2e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=2e-5)
    ours = sum(share for source, share in scores.shares.items() if source.startswith("image"))
    torch.testing.assert_close(ours.double(), on_pictures, rtol=1e-3, atol=1e-6)


def exact(name: str) -> None:
    case = families.build(name)
    agrees(name, case, tiny.ANSWER, score_answer(case.model, case.inputs, tiny.ANSWER))


def locore_exact(name: str) -> None:
    case = families.build(name)
    locore = LocoREConfig(beta=0.4, window=3)
    agrees(name, case, tiny.ANSWER, score_answer(case.model, case.inputs, tiny.ANSWER, locore=locore), locore)


def only_text(penalty: float = 1.0) -> LogitsProcessorList:
    penalties = [RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1.0 else []
    return LogitsProcessorList([*penalties, SuppressTokensLogitsProcessor(NO_TEXT)])


def decoded(case: tiny.Case, penalty: float = 1.0, **rules: Any) -> list[Any]:
    decoder = Decoder(Session(case.model, case.inputs), processor=only_text(penalty), **rules)
    return [token.grounding for token in decoder.tokens(LENGTH)]


def generated(case: tiny.Case, **settings: Any) -> list[int]:
    inputs = {key: value for key, value in case.inputs.items() if key != "labels"}
    out = case.model.generate(
        **inputs,
        max_new_tokens=LENGTH,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        suppress_tokens=NO_TEXT,
        max_length=None,
        **settings,
    )
    return out[0, inputs["input_ids"].shape[1] :].tolist()


def drafted_is_stepwise(name: str) -> None:
    case = families.build(name)
    runs = [decoded(case, sgrs=SGRSConfig(alpha=0.95, draft_length=length)) for length in (1, 4)]
    assert [token.token_id for token in runs[0]] == [token.token_id for token in runs[1]]
    for left, right in zip(*runs, strict=True):
        assert (left.saliency is None) == (right.saliency is None)
        torch.testing.assert_close(left.saliency or 0.0, right.saliency or 0.0, rtol=1e-5, atol=0)
        assert [token.token_id for token in left.rejected] == [token.token_id for token in right.rejected]
    answer = [token.token_id for token in runs[0]]
    scores = score_answer(case.model, case.inputs, answer)
    ours = torch.tensor([token.saliency for token in runs[0][1:]])
    torch.testing.assert_close(ours.double(), scores.saliency[1:].double(), rtol=1e-4, atol=0)


def greedy(name: str) -> None:
    case = families.build(name)
    assert [token.token_id for token in decoded(case)] == generated(case)


def custom_generate(name: str) -> None:
    case = families.build(name)
    assert generated(case, custom_generate=sgrs_generate, sgrs=None) == generated(case)


def processors(name: str) -> None:
    """Logits processors see what they see in transformers."""
    case = families.build(name)
    plain = generated(case, repetition_penalty=1.7)
    assert generated(case, repetition_penalty=1.7, custom_generate=sgrs_generate, sgrs=None) == plain
    if name not in families.GENERATED:
        assert [token.token_id for token in decoded(case, 1.7)] == plain


def batches(name: str) -> None:
    """Prompts of several lengths, side by side or in turns: each as if it were alone."""
    case = families.build(name)
    longer = prefixed(case, [1, 7, 5])
    answers = [tiny.ANSWER, tiny.ANSWER[:5]]
    prompts = [case.inputs, longer]
    sessions = [Session(case.model, inputs) for inputs in prompts]
    together = score_together(sessions, answers, SaliencyConfig())
    for inputs, answer, scores in zip(prompts, answers, together, strict=True):
        alone = score_answer(case.model, inputs, answer)
        torch.testing.assert_close(scores.saliency[1:], alone.saliency[1:], rtol=1e-4, atol=0)
        torch.testing.assert_close(scores.logprobs, alone.logprobs, rtol=1e-4, atol=1e-5)
    rules = {"processor": only_text(), "saliency": SaliencyConfig()}
    rows = [Row(Decoder(Session(case.model, inputs), **rules), LENGTH) for inputs in prompts]
    written: list[list[int]] = [[], []]
    for index, tokens in decode_together(rows):
        written[index] += [token.token_id for token in tokens]
    for inputs, tokens in zip(prompts, written, strict=True):
        alone = decoded(tiny.Case(case.model, inputs), saliency=SaliencyConfig())
        assert tokens == [token.token_id for token in alone]


def several(case: tiny.Case, times: int) -> tiny.Case:
    """The prompt over again, each time with pictures of its own."""
    ids = case.inputs["input_ids"]
    inputs: dict[str, torch.Tensor] = {}
    for key, value in case.inputs.items():
        if key == "cross_attention_mask":
            shape = (1, times * value.shape[1], times * value.shape[2], value.shape[3])
            inputs[key] = torch.block_diag(*[value[0].flatten(1)] * times).view(shape)
        elif (
            (value.shape == ids.shape and not is_of_pictures(key))
            or key.startswith("aspect_")
            or (key == "pixel_values" and has_a_batch(case))
        ):
            inputs[key] = torch.cat([value] * times, dim=1)
        elif key == "image_token_pooling":  # Places among the patches of all pictures.
            patches = case.inputs["pixel_values"].shape[:2].numel()
            inputs[key] = torch.cat([value + number * patches for number in range(times)])
        else:
            inputs[key] = torch.cat([value * (1 + 0.1 * n) if key == "pixel_values" else value for n in range(times)])
    return tiny.Case(case.model, inputs)


def has_a_batch(case: tiny.Case) -> bool:
    """Whether pixel values are ``[1, pictures, ...]``."""
    pixels = case.inputs.get("pixel_values")
    return pixels is not None and (pixels.ndim > 4 or case.model.config.model_type == "fuyu") and not sized(case)


def sized(case: tiny.Case) -> bool:
    return "image_sizes" in case.inputs


def pictures_in(case: tiny.Case) -> int:
    for key in ("image_grid_thw", "image_sizes", "image_grids", "spatial_shapes"):
        if key in case.inputs:
            return len(case.inputs[key])
    if case.model.config.model_type == "fuyu":
        return 1
    if has_a_batch(case):
        return case.inputs["pixel_values"].shape[1]
    of_one = {"flattened_patches", "image_position_ids"}
    return 1 if of_one & case.inputs.keys() else len(case.inputs["pixel_values"])


def pictures(name: str) -> None:
    """Two or three times the pictures: all told apart, and each as brute force has it."""
    case = families.build(name)
    for times in (2, 3):
        more = several(case, times)
        answer = tiny.ANSWER[:4]
        scores = score_answer(more.model, more.inputs, answer)
        agrees(name, more, answer, scores)
        sources = [source for source in scores.shares if re.fullmatch(r"image_\d+", source)]
        count = pictures_in(case)
        assert sources == [f"image_{number}" for number in range(times * count)]
        if name in families.ACROSS:
            shares = across_outcome(more, answer)[2]
            blocks = [shares[:, block * count : (block + 1) * count].sum(-1) for block in range(times)]
        else:
            shares = outcome(more, answer)[2]
            marked = families.picture_positions(more).clone().view(times, -1)
            blocks = [shares.view(len(answer), times, -1)[:, block][:, marked[block]].sum(-1) for block in range(times)]
        for block, wanted in enumerate(blocks):
            ours = sum(scores.shares[f"image_{block * count + number}"] for number in range(count))
            torch.testing.assert_close(ours.double(), wanted, rtol=1e-3, atol=1e-6)
        written_alike(more)


def halved(case: tiny.Case, dtype: torch.dtype) -> tiny.Case:
    """All but what is complex, as some rotary positions are."""
    for tensor in (*case.model.parameters(), *case.model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return tiny.Case(
        case.model,
        {key: value.to(dtype) if value.is_floating_point() else value for key, value in case.inputs.items()},
    )


def written_alike(case: tiny.Case) -> None:
    """`generate` encodes pictures beforehand: what reaches us has no pixels, and is told apart all the same."""
    inputs = {key: value for key, value in case.inputs.items() if key != "labels"}
    out = case.model.generate(
        **inputs,
        max_new_tokens=2,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        suppress_tokens=NO_TEXT,
        max_length=None,
        custom_generate=sgrs_generate,
        sgrs=None,
        return_dict_in_generate=True,
    )
    scores = score_answer(case.model, case.inputs, [token.token_id for token in out.tokens])
    for source, shares in scores.shares.items():
        ours = torch.tensor([token.shares[source] for token in out.tokens])
        torch.testing.assert_close(ours.double(), shares.double(), rtol=1e-3, atol=1e-6)
    assert list(out.tokens[0].shares) == list(scores.shares)


CLOSE = {torch.bfloat16: (0.03, 0.2), torch.float16: (0.005, 0.05)}
"""By precision: how far scores may be from those of the same weights in double precision: of saliency the median, as a
part; of a log-probability the largest."""
WIDER = {"qwen3.5": 3.0}
"""Families whose states keep what was rounded (a delta rule), and by how much they may be farther."""


def half_precision(name: str) -> None:
    for dtype, (apart, likelihood) in CLOSE.items():
        case = halved(families.build(name), dtype)
        scores = score_answer(case.model, case.inputs, tiny.ANSWER)
        tokens = decoded(case, sgrs=SGRSConfig(alpha=0.5))
        assert len(tokens) == LENGTH
        exactly = halved(case, torch.float32 if name in families.SINGLE else torch.float64)
        wanted = score_answer(exactly.model, exactly.inputs, tiny.ANSWER)
        parts = ((scores.saliency.double() - wanted.saliency.double()).abs() / wanted.saliency.double())[1:]
        assert float(parts.median()) <= apart * WIDER.get(name, 1.0)
        possible = wanted.logprobs > -1e4  # Some rule tokens out, by numbers that have no like in another precision.
        assert float((scores.logprobs.double() - wanted.logprobs.double())[possible].abs().max()) <= likelihood
        for source, share in wanted.shares.items():
            assert float((scores.shares[source].double() - share.double()).abs().median()) <= apart


def unchanged(name: str) -> None:
    """Weights, flags, hooks, attention and configuration are as they were."""
    case = families.build(name)
    case.model.train()
    with torch.no_grad():
        case.model(**{key: value for key, value in case.inputs.items() if key != "labels"})

    def state() -> tuple[Any, ...]:
        modules = list(case.model.modules())
        return (
            [m.training for m in modules],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
            ["forward" in vars(m) for m in modules],
            [m.config._attn_implementation for m in modules if hasattr(m, "config")],
            [getattr(m, "rope_deltas", None) for m in modules],
            [(p.requires_grad, p.grad) for p in case.model.parameters()],
            case.model.config.to_dict(),
        )

    before, weights = state(), {key: value.clone() for key, value in case.model.state_dict().items()}
    inputs = {key: value.clone() for key, value in case.inputs.items()}
    score_answer(case.model, case.inputs, tiny.ANSWER, locore=LocoREConfig())
    decoded(case, sgrs=SGRSConfig(alpha=0.95))
    assert repr(state()) == repr(before)
    assert all(torch.equal(value, weights[key]) for key, value in case.model.state_dict().items())
    assert all(torch.equal(value, inputs[key]) for key, value in case.inputs.items())


CHECKS: dict[str, Callable[[str], None]] = {
    "scores exact": exact,
    "drafted = stepwise": drafted_is_stepwise,
    "greedy": greedy,
    "custom_generate": custom_generate,
    "logits processors": processors,
    "LocoRE exact": locore_exact,
    "batches": batches,
    "pictures": pictures,
    "half precision": half_precision,
    "signals": traced,
    "left as found": unchanged,
}
"""By the name of the column of docs/models.md."""
