"""Every family counts its positions in its own way, and is scored as it counts."""

from __future__ import annotations

import families
import oracle
import pytest
import tiny
import torch
from torch.nn import functional

from saliency_guard import InputError, LocoREConfig, SaliencyConfig, SGRSConfig, saliency_map, score_answer
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.layers import target_layers
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import score_together
from saliency_guard.signals.trace import trace_answer, trace_answers

ANSWER = tiny.ANSWER[:5]


def expected(
    case: tiny.Case, answer: list[int], layers: tuple[int, ...], locore: LocoREConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    prompt = case.inputs["input_ids"].shape[1]
    gamma = locore and {"beta": locore.beta, "window": locore.window, "output_start": prompt}
    every = list(range(case.model.config.get_text_config().num_hidden_layers))
    return oracle.saliency(
        case.model,
        case.inputs,
        answer,
        layers=list(layers),
        start=prompt,
        locore=locore and {"layers": every, "gamma": gamma, "renormalize": True},
    )


@pytest.mark.parametrize("name", list(families.SCORED))
def test_scores_and_shares_agree_with_brute_force(name: str) -> None:
    case = families.build(name)
    layers = target_layers(case.model, SaliencyConfig().layers)
    scores = score_answer(case.model, case.inputs, ANSWER)
    saliency, logprobs, rows = expected(case, ANSWER, layers)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)
    pictures = torch.zeros(rows.shape[1], dtype=torch.bool)
    pictures[: len(case.inputs["input_ids"][0])] = families.picture_positions(case)
    on_pictures = sum(share for source, share in scores.shares.items() if source.startswith("image"))
    wanted = rows[:, pictures].sum(-1) / rows.sum(-1)
    torch.testing.assert_close(on_pictures.double(), wanted, rtol=1e-4, atol=1e-6)


@pytest.fixture(params=[*families.MULTIMODAL_ROTARY, *families.PREFIXED])
def counting(request: pytest.FixtureRequest) -> tiny.Case:
    """Families that do not count from zero in one row."""
    return families.build(request.param)


def test_scores_under_locore_agree_with_brute_force(counting: tiny.Case) -> None:
    locore = LocoREConfig(beta=0.4, window=2)
    scores = score_answer(counting.model, counting.inputs, ANSWER, locore=locore)
    layers = target_layers(counting.model, SaliencyConfig().layers)
    saliency, logprobs, _ = expected(counting, ANSWER, layers, locore)
    torch.testing.assert_close(scores.saliency[1:].double(), saliency[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-5)


def test_drafting_changes_nothing_and_is_brute_force(counting: tiny.Case) -> None:
    rules = [SGRSConfig(alpha=0.9, draft_length=length) for length in (1, 4)]
    decoders = [Decoder(Session(counting.model, counting.inputs), sgrs=sgrs) for sgrs in rules]
    runs = [[token.grounding for token in decoder.tokens(6)] for decoder in decoders]
    answers = [[token.token_id for token in run] for run in runs]
    assert answers[0] == answers[1]
    layers = target_layers(counting.model, SaliencyConfig().layers)
    readable = answers[0]
    if set(readable) & {tiny.IMAGE, families.VIDEO}:  # The oracle would look for its picture.
        readable = readable[: next(i for i, t in enumerate(readable) if t in {tiny.IMAGE, families.VIDEO})]
    saliency, logprobs, rows = expected(counting, readable, layers)
    for run in runs:
        ours = torch.tensor([token.saliency for token in run[1 : len(readable)]], dtype=torch.float64)
        torch.testing.assert_close(ours, saliency[1:], rtol=1e-4, atol=0)
        ours = torch.tensor([token.logprob for token in run[: len(readable)]], dtype=torch.float64)
        torch.testing.assert_close(ours, logprobs, rtol=1e-4, atol=1e-5)
        first = sum(share for source, share in run[0].shares.items() if source.startswith("image"))
        on_pictures = rows[0, : len(counting.inputs["input_ids"][0])][families.picture_positions(counting)].sum()
        assert first == pytest.approx(float(on_pictures / rows[0].sum()), rel=1e-4)


def test_side_by_side_is_alone(counting: tiny.Case) -> None:
    config = SaliencyConfig()
    alone = score_answer(counting.model, counting.inputs, ANSWER)
    sessions = [Session(counting.model, counting.inputs) for _ in range(2)]
    for scores in score_together(sessions, [ANSWER, ANSWER], config):
        torch.testing.assert_close(scores.saliency[1:], alone.saliency[1:], rtol=1e-5, atol=0)
    sessions = [Session(counting.model, counting.inputs, with_image_states=True) for _ in range(2)]
    for trace in trace_answers(sessions, [ANSWER, ANSWER], config):
        torch.testing.assert_close(trace.scores.saliency[1:], alone.saliency[1:], rtol=1e-5, atol=0)
    written = list(Decoder(Session(counting.model, counting.inputs), saliency=config).tokens(6))
    rows = [Row(Decoder(Session(counting.model, counting.inputs), saliency=config), 6) for _ in range(2)]
    together: list[list[int]] = [[], []]
    for index, tokens in decode_together(rows):
        together[index] += [token.token_id for token in tokens]
    assert together == [[token.token_id for token in written]] * 2


def test_the_full_map_agrees_with_brute_force(counting: tiny.Case) -> None:
    maps = saliency_map(counting.model, counting.inputs, ANSWER, 3, config=SaliencyConfig(layers=(0.0, 1.0)))
    attention, gradient, _ = oracle.token_maps(counting.model, counting.inputs, ANSWER, 3)
    product = (attention * gradient).abs().tril()
    torch.testing.assert_close(maps.saliency, product.to(maps.saliency), rtol=1e-3, atol=1e-5 * float(product.max()))


def test_a_trace_sees_what_brute_force_sees(counting: tiny.Case) -> None:
    """Of every layer and head, the first token's row included."""
    trace = trace_answer(counting.model, counting.inputs, ANSWER)
    pictures = families.picture_positions(counting)
    for target in (0, 4):
        attention, gradient, _ = oracle.token_maps(counting.model, counting.inputs, ANSWER, target)
        row = attention[:, :, -1, : len(pictures)]
        wanted = row[..., pictures].sum(-1).to(trace.attention)
        torch.testing.assert_close(trace.attention[target, ..., 0], wanted, rtol=1e-4, atol=1e-6)
        product = (attention * gradient)[:, :, -1]
        wanted = product[..., : len(pictures)][..., pictures].abs().sum(-1) / product.abs().sum()
        ours = trace.saliency[target][..., 0] / trace.saliency[target].sum()
        torch.testing.assert_close(ours, wanted.to(ours), rtol=1e-3, atol=1e-6)
    blank = {k: torch.zeros_like(v) if k.startswith("pixel") else v for k, v in counting.inputs.items()}
    unseen = score_answer(counting.model, blank, ANSWER).logprobs
    torch.testing.assert_close(trace.blank_logprobs, unseen, rtol=1e-4, atol=1e-4)


def test_the_states_are_those_of_one_pass(counting: tiny.Case) -> None:
    trace = trace_answer(counting.model, counting.inputs, ANSWER)
    whole = oracle.extended(counting.model, counting.inputs, ANSWER)
    counting.model.set_attn_implementation("eager")
    with torch.no_grad():
        states = counting.model(**whole, use_cache=False, output_hidden_states=True).hidden_states
    first = counting.inputs["input_ids"].shape[1] - 1
    for ours, pictures, theirs in zip(trace.output_states, trace.image_states, states, strict=True):
        torch.testing.assert_close(ours, theirs[0, first:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pictures, theirs[0, trace.image_positions], rtol=1e-4, atol=1e-5)


def test_a_padded_prompt_is_the_same_prompt(counting: tiny.Case) -> None:
    plain = score_answer(counting.model, counting.inputs, ANSWER)
    ids = counting.inputs["input_ids"]
    padded = {
        name: functional.pad(value, (3, 0)) if value.shape == ids.shape else value
        for name, value in counting.inputs.items()
    }
    again = score_answer(counting.model, padded, ANSWER)
    torch.testing.assert_close(again.saliency[1:], plain.saliency[1:], rtol=1e-6, atol=0)


@pytest.mark.parametrize("normalization", ["row", "matrix"])
def test_positions_of_the_callers_own_are_continued(normalization: str) -> None:
    """Here: those that the model would have made, moved on by five; rotary attention knows distances only."""
    case = families.build("qwen2.5-vl")
    config = SaliencyConfig(normalization=normalization)
    plain = score_answer(case.model, case.inputs, ANSWER, config=config)
    own, _ = case.model.model.get_rope_index(**{k: v for k, v in case.inputs.items() if k != "pixel_values"})
    moved = score_answer(case.model, {**case.inputs, "position_ids": own + 5}, ANSWER, config=config)
    torch.testing.assert_close(moved.saliency[1:], plain.saliency[1:], rtol=1e-4, atol=0)


def test_a_prompt_without_a_picture_goes_with_one_that_has_one() -> None:
    """One counts in one row, the other in three."""
    case = families.build("qwen3-vl")
    text = {"input_ids": torch.tensor([[1, 5, 7, 9, 10]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    sessions = [Session(case.model, inputs) for inputs in (case.inputs, text)]
    together = score_together(sessions, [ANSWER, ANSWER], SaliencyConfig())
    for scores, inputs in zip(together, (case.inputs, text), strict=True):
        alone = score_answer(case.model, inputs, ANSWER)
        torch.testing.assert_close(scores.saliency[1:], alone.saliency[1:], rtol=1e-4, atol=0)


def test_a_recurrent_model_may_be_asked_right_after_the_picture() -> None:
    """Its last token is not read ahead: what is read ends with the picture."""
    case = tiny.to(tiny.build("qwen3.5"), torch.float64)
    shown = {name: value[:, :9] if value.shape[-1] == 11 else value for name, value in case.inputs.items()}
    shown["input_ids"] = torch.cat([case.inputs["input_ids"][:, :7], torch.tensor([[9]])], dim=1)
    shown = {**case.inputs, "input_ids": shown["input_ids"]}
    for name in ("attention_mask", "mm_token_type_ids"):
        shown[name] = case.inputs[name][:, :8]
    case = tiny.Case(case.model, shown)
    scores = score_answer(case.model, case.inputs, ANSWER)
    _, logprobs, _ = oracle.saliency(case.model, case.inputs, ANSWER, layers=[1, 2], start=8)
    torch.testing.assert_close(scores.logprobs.double(), logprobs, rtol=1e-4, atol=1e-4)


def test_an_answer_with_the_picture_token_after_a_prefix_is_refused() -> None:
    case = families.build("paligemma")
    with pytest.raises(InputError, match="image token"):
        score_answer(case.model, case.inputs, [12, tiny.IMAGE, 7])
