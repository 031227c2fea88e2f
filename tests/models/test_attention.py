"""Layers that look at pictures beside the sequence (cross-attention) are read as brute force reads them."""

from __future__ import annotations

import families
import oracle
import pytest
import tiny
import torch

from saliency_guard import (
    ConfigError,
    InputError,
    LocoREConfig,
    SaliencyConfig,
    SGRSConfig,
    saliency_map,
    score_answer,
    sgrs_generate,
)
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.layers import target_layers
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import score_together

TILE = 5
"""Four patches, and the class token."""

PICTURES = {"mllama": [(0, TILE)], "mllama-two": [(0, 2 * TILE), (2 * TILE, 4 * TILE)]}


@pytest.fixture(params=list(families.ACROSS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def across(name: str) -> tiny.Case:
    return families.build(name)


def expected(
    name: str, case: tiny.Case, answer: list[int], config: SaliencyConfig, locore: LocoREConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    prompt = case.inputs["input_ids"].shape[1]
    gamma = locore and {"beta": locore.beta, "window": locore.window, "output_start": prompt}
    return oracle.across(
        case.model,
        case.inputs,
        answer,
        layers=list(target_layers(case.model, config.layers)),
        start=prompt,
        pictures=PICTURES[name],
        normalization=config.normalization,
        locore=locore and {"layers": [0, 2, 4], "gamma": gamma, "renormalize": locore.renormalize},
    )


@pytest.mark.parametrize(
    ("layers", "normalization"), [((0.5, 1.0), "row"), ((0.0, 1.0), "matrix"), ([1, 2, 4], "row"), ([3, 4], "matrix")]
)
def test_scores_and_shares_agree_with_brute_force(
    name: str, across: tiny.Case, layers: object, normalization: str
) -> None:
    config = SaliencyConfig(layers=layers, normalization=normalization)
    scores = score_answer(across.model, across.inputs, tiny.ANSWER, saliency=config)
    saliency, logprobs, shares = expected(name, across, tiny.ANSWER, config)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)
    on_pictures = torch.stack([scores.shares[f"image_{number}"] for number in range(len(PICTURES[name]))], dim=1)
    torch.testing.assert_close(on_pictures.double(), shares, rtol=1e-4, atol=1e-6)
    assert float(shares.min()) > 0.01
    torch.testing.assert_close(sum(scores.shares.values()), torch.ones_like(scores.shares["text"]))


@pytest.mark.parametrize("renormalize", [True, False])
def test_scores_under_locore_agree_with_brute_force(name: str, across: tiny.Case, *, renormalize: bool) -> None:
    locore = LocoREConfig(beta=0.4, window=3, renormalize=renormalize)
    scores = score_answer(across.model, across.inputs, tiny.ANSWER, locore=locore)
    saliency, logprobs, shares = expected(name, across, tiny.ANSWER, SaliencyConfig(), locore)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.shares["image_0"].double(), shares[:, 0], rtol=1e-4, atol=1e-6)


def test_drafting_changes_nothing_and_is_brute_force(name: str, across: tiny.Case) -> None:
    rules = [SGRSConfig(alpha=0.9, draft_length=length) for length in (1, 4)]
    decoders = [Decoder(Session(across.model, across.inputs), sgrs=sgrs) for sgrs in rules]
    runs = [[token.grounding for token in decoder.tokens(9)] for decoder in decoders]
    answers = [[token.token_id for token in run] for run in runs]
    assert answers[0] == answers[1]
    assert tiny.IMAGE not in answers[0]
    saliency, logprobs, shares = expected(name, across, answers[0], SaliencyConfig())
    for run in runs:
        assert any(token.rejected for token in run)
        ours = torch.tensor([token.saliency for token in run[1:]], dtype=torch.float64)
        torch.testing.assert_close(ours, saliency[1:], rtol=1e-4, atol=0)
        ours = torch.tensor([token.logprob for token in run], dtype=torch.float64)
        torch.testing.assert_close(ours, logprobs, rtol=1e-4, atol=1e-5)
        ours = torch.tensor([token.shares["image_0"] for token in run], dtype=torch.float64)
        torch.testing.assert_close(ours, shares[:, 0], rtol=1e-4, atol=1e-6)


def test_greedy_tokens_are_those_of_transformers(across: tiny.Case) -> None:
    options = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = across.model.generate(**across.inputs, **options)
    ours = across.model.generate(**across.inputs, **options, custom_generate=sgrs_generate, sgrs=None)
    assert ours.tolist() == plain.tolist()
    stepwise = [token.token_id for token in Decoder(Session(across.model, across.inputs)).tokens(9)]
    assert plain[0, across.inputs["input_ids"].shape[1] :].tolist() == stepwise


def test_side_by_side_is_alone(across: tiny.Case) -> None:
    """With a prompt that has no picture, where those layers are passed over."""
    text = {"input_ids": torch.tensor([[1, 5, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    prompts = [across.inputs, text]
    sessions = [Session(across.model, inputs) for inputs in prompts]
    together = score_together(sessions, [tiny.ANSWER, tiny.ANSWER[:4]], SaliencyConfig())
    for inputs, answer, scores in zip(prompts, [tiny.ANSWER, tiny.ANSWER[:4]], together, strict=True):
        alone = score_answer(across.model, inputs, answer)
        torch.testing.assert_close(scores.saliency[1:], alone.saliency[1:], rtol=1e-5, atol=0)
        assert scores.shares.keys() == alone.shares.keys()


def test_a_prompt_without_a_picture_agrees_with_brute_force(across: tiny.Case) -> None:
    text = {"input_ids": torch.tensor([[1, 5, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    config = SaliencyConfig(layers=(0.2, 1.0))  # The lowest target layer is one of those that are passed over.
    scores = score_answer(across.model, text, tiny.ANSWER, saliency=config)
    # What is recorded are the layers that ran.
    saliency, logprobs, _ = oracle.saliency(across.model, text, tiny.ANSWER, layers=[1, 2], start=3)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)
    assert set(scores.shares) == {"text", "output"}


def test_a_padded_prompt_is_the_same_prompt(across: tiny.Case) -> None:
    plain = score_answer(across.model, across.inputs, tiny.ANSWER)
    padded = dict(across.inputs)
    for name, value in across.inputs.items():
        if name in {"input_ids", "attention_mask", "cross_attention_mask"}:
            before = torch.zeros(1, 3, *value.shape[2:], dtype=value.dtype)
            padded[name] = torch.cat([before, value], dim=1)
    again = score_answer(across.model, padded, tiny.ANSWER)
    torch.testing.assert_close(again.saliency[1:], plain.saliency[1:], rtol=1e-6, atol=0)


def test_the_full_map_is_of_the_layers_along_the_sequence(across: tiny.Case) -> None:
    maps = saliency_map(across.model, across.inputs, tiny.ANSWER, 3, saliency=SaliencyConfig(layers=(0.0, 1.0)))
    assert maps.layers == (0, 2, 4)
    logits, attentions = oracle.forward(across.model, across.inputs, tiny.ANSWER[:3], None)
    loss = torch.nn.functional.cross_entropy(logits[-1][None], torch.tensor([tiny.ANSWER[3]]))
    gradients = torch.autograd.grad(loss, attentions)
    for at, layer in enumerate(maps.layers):
        wanted = gradients[layer][0].to(maps.gradient)
        torch.testing.assert_close(maps.gradient[at], wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


def test_history_after_the_image_begins_behind_its_mark(across: tiny.Case) -> None:
    session = Session(across.model, across.inputs)
    marks = (across.inputs["input_ids"][0] == tiny.IMAGE).nonzero()
    assert session.layout.after_image == int(marks.max()) + 1


def test_half_precision_gives_numbers(across: tiny.Case) -> None:
    half = tiny.to(across, torch.bfloat16)
    scores = score_answer(half.model, half.inputs, tiny.ANSWER)
    assert bool(scores.saliency[1:].isfinite().all())


def test_layers_of_one_kind_alone_are_refused(across: tiny.Case) -> None:
    with pytest.raises(ConfigError, match="no layer that looks at pictures"):
        score_answer(across.model, across.inputs, tiny.ANSWER, saliency=SaliencyConfig(layers=[2, 4]))
    with pytest.raises(ConfigError, match="attention to the sequence"):
        score_answer(across.model, across.inputs, tiny.ANSWER, saliency=SaliencyConfig(layers=[1, 3]))
    with pytest.raises(ConfigError, match="attention to the sequence"):
        score_answer(across.model, across.inputs, tiny.ANSWER, locore=LocoREConfig(layers=[1]))


def test_pictures_that_cannot_be_told_apart_are_refused() -> None:
    case = families.build("mllama-two")
    bare = {k: v for k, v in case.inputs.items() if k not in {"cross_attention_mask", "aspect_ratio_mask"}}
    with pytest.raises(InputError, match="told apart"):
        score_answer(case.model, bare, tiny.ANSWER)
