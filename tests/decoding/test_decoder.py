from __future__ import annotations

import functools
from typing import Any

import oracle
import pytest
import tiny
import torch

from saliency_guard import LVLM, ConfigError, LocoREConfig, SaliencyConfig, SGRSConfig, score_answer
from saliency_guard.answer import TokenGrounding
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.decoding.sampling import sample, uniform
from saliency_guard.evaluation.world import pictures
from saliency_guard.models.session import Session
from saliency_guard.saliency.equations import candidate_rows, token_rows
from saliency_guard.scenes.language import DESCRIBE

LENGTH = 10


def only_text(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """A random model may write image placeholders; a whole-sequence oracle cannot read them back."""
    scores = scores.clone()
    scores[..., tiny.IMAGE :] = -torch.inf
    return scores


def decode(
    case: tiny.Case,
    length: int = LENGTH,
    *,
    sgrs: SGRSConfig | None = None,
    locore: LocoREConfig | None = None,
    **rules: Any,
) -> list[TokenGrounding]:
    rules.setdefault("processor", only_text)
    return [
        token.grounding
        for token in Decoder(Session(case.model, case.inputs, locore=locore), sgrs=sgrs, **rules).tokens(length)
    ]


def summary(tokens: list[TokenGrounding]) -> list[tuple]:
    return [(t.token_id, [r.token_id for r in t.rejected]) for t in tokens]


@pytest.mark.parametrize(
    ("layers", "history", "locore"),
    [
        ((0.5, 1.0), "output", LocoREConfig(beta=0.3, window=4)),
        ([1], "after_image", None),
        ((0.0, 1.0), "after_image", LocoREConfig(beta=0.3, window=4)),
    ],
)
def test_step_scores_agree_with_brute_force(
    case: tiny.Case, layers: Any, history: Any, locore: LocoREConfig | None
) -> None:
    """Every setting with every model; those of whole answers are in tests/saliency."""
    prompt = case.inputs["input_ids"].shape[1]
    depth = case.model.config.get_text_config().num_hidden_layers
    config = SaliencyConfig(layers=layers, history=history)
    tokens = decode(case, 8, sgrs=SGRSConfig(alpha=0.97, draft_length=3), locore=locore, saliency=config)
    after_image = int((case.inputs["input_ids"][0] == tiny.IMAGE).nonzero().max()) + 1
    expected, logprobs, _ = oracle.saliency(
        case.model,
        case.inputs,
        [t.token_id for t in tokens],
        layers={(0.5, 1.0): list(range(depth // 2, depth)), (0.0, 1.0): list(range(depth))}.get(tuple(layers), [1]),
        start=prompt if history == "output" else after_image,
        locore=locore
        and {
            "layers": list(range(depth)),
            "gamma": {"beta": locore.beta, "window": locore.window, "output_start": prompt},
            "renormalize": True,
        },
    )
    assert tokens[0].saliency is None
    found = torch.tensor([t.saliency for t in tokens[1:]], dtype=torch.float64)
    torch.testing.assert_close(found, expected[1:], rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.tensor([t.logprob for t in tokens]).double(), logprobs, rtol=1e-4, atol=1e-5)
    # What was rejected was scored in its place, too.
    assert any(token.rejected for token in tokens), "the test must meet rejections"
    for position, token in enumerate(tokens):
        for rejected in token.rejected:
            answer = [t.token_id for t in tokens[:position]] + [rejected.token_id]
            ours = score_answer(case.model, case.inputs, answer, config=config, locore=locore)
            assert rejected.saliency == pytest.approx(float(ours.saliency[-1]), rel=1e-4)


def reference_sgrs(case: tiny.Case, config: SGRSConfig, length: int) -> list[tuple]:
    """Algorithm 1 as it is written, greedy, on whole-sequence scores: one candidate after the other."""
    answer: list[int] = []
    history: list[float] = []
    result: list[tuple] = []
    for _ in range(length):
        logits, _ = oracle.forward(case.model, case.inputs, answer, None)
        ranked = only_text(None, logits[-1]).topk(config.top_k).indices.tolist()

        @functools.cache
        def score(token: int, before: tuple[int, ...] = tuple(answer)) -> float:
            return float(score_answer(case.model, case.inputs, [*before, token]).saliency[-1])

        recent = history[-config.window :]
        tau = config.alpha * sum(recent) / len(recent) if recent else 0.0
        tried = []
        chosen = None
        for token in ranked[: config.max_resamples]:
            if not answer or score(token) >= tau:
                chosen = token
                break
            tried.append(token)
        if chosen is None:
            chosen = max(ranked, key=score)
        if answer:
            history.append(score(chosen))
        answer.append(chosen)
        result.append((chosen, [token for token in tried if token != chosen], tau))
    return result


@pytest.mark.parametrize("config", [SGRSConfig(alpha=0.95), SGRSConfig(alpha=0.97, top_k=3, max_resamples=2, window=2)])
def test_greedy_sgrs_is_algorithm_1(case: tiny.Case, config: SGRSConfig) -> None:
    expected = reference_sgrs(case, config, LENGTH)
    tokens = decode(case, sgrs=config)
    assert summary(tokens) == [(chosen, rejected) for chosen, rejected, _ in expected]
    assert [t.threshold for t in tokens] == pytest.approx([tau for *_, tau in expected], rel=1e-4)
    assert any(t.rejected for t in tokens), "the test must meet rejections"


@pytest.mark.parametrize("sgrs", [None, SGRSConfig(alpha=0.9, draft_length=4)])
def test_an_answer_follows_a_prompt_that_ends_with_the_token_that_ends_answers(
    llava: tiny.Case, sgrs: SGRSConfig | None
) -> None:
    ending = frozenset({int(llava.inputs["input_ids"][0, -1])})
    tokens = decode(llava, sgrs=sgrs, saliency=SaliencyConfig(), eos=ending)
    stepwise = decode(llava, sgrs=sgrs, saliency=SaliencyConfig(), eos=ending, draft_length=1)
    assert summary(tokens) == summary(stepwise)
    assert len(tokens) > 1


@pytest.mark.parametrize(
    ("name", "seed"),
    [("llava-mha", None), ("llava-gqa", None), ("llava-gqa", 0), ("qwen2-vl", 0), ("gemma3", 0), ("internvl", None)],
)
def test_draft_length_changes_nothing(name: str, seed: int | None) -> None:
    """Greedy and sampled. Of every model, greedy drafts are algorithm 1, too, which knows none (above)."""
    exact = tiny.to(tiny.build(name), torch.float64)
    runs = [
        decode(exact, 20, sgrs=SGRSConfig(alpha=0.9, draft_length=length), locore=LocoREConfig(), seed=seed)
        for length in (1, 4, 16, "auto")
    ]
    for run in runs[1:]:
        assert summary(run) == summary(runs[0])
        for one, other in zip(run[1:], runs[0][1:], strict=True):
            assert one.saliency == pytest.approx(other.saliency, rel=1e-9)
            assert one.threshold == pytest.approx(other.threshold, rel=1e-9)
    assert sum(len(t.rejected) for t in runs[0]) > 0


def test_without_sgrs_greedy_is_what_transformers_generates(case: tiny.Case) -> None:
    plain = case.model.generate(**case.inputs, max_new_tokens=LENGTH, do_sample=False, eos_token_id=None)
    tokens = decode(case, saliency=SaliencyConfig(), processor=None)
    assert [t.token_id for t in tokens] == plain[0, case.inputs["input_ids"].shape[1] :].tolist()


def test_sampling_follows_its_seed(llava: tiny.Case) -> None:
    runs = [summary(decode(llava, 20, sgrs=SGRSConfig(), seed=seed)) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_plain_sampling_has_the_models_distribution(llava: tiny.Case) -> None:
    """First tokens over many seeds against the softmax: total variation distance."""
    session = Session(llava.model, llava.inputs)
    probabilities = session.run([session.last_prompt_token]).logits[-1].softmax(-1).double()
    session.crop(session.prompt_length - 1)
    counts = torch.zeros(tiny.VOCABULARY).double()
    scores = probabilities.log().float()
    draws = 4000
    for seed in range(draws):
        counts[sample(scores, uniform(seed, 0, 0))] += 1
    assert float((counts / draws - probabilities).abs().sum() / 2) < 0.06


def test_matrix_norm_while_generating_is_refused(llava: tiny.Case) -> None:
    with pytest.raises(ConfigError, match="score a finished answer"):
        decode(llava, saliency=SaliencyConfig(normalization="matrix"))


def test_draft_length_changes_nothing_in_float32(lvlm: LVLM) -> None:
    """Rounding differs between one row and many; what is written does not."""
    kinds = (DESCRIBE, "Where is the dog?", "How many cups are there in the image?")
    rejected = 0
    for number, picture in enumerate(pictures("development", 6)):
        inputs = lvlm.inputs(chat(picture.image, kinds[number % 3]))
        layout = prompt_layout(lvlm.model.config, inputs)
        session = Session(lvlm.model, inputs, locore=LocoREConfig())
        runs = []
        for length in (1, 5, "auto"):
            sgrs = SGRSConfig(alpha=0.8, draft_length=length)
            own = session.fork(locore=LocoREConfig(), layout=layout)
            runs.append(
                [token.grounding for token in Decoder(own, sgrs=sgrs, seed=number, eos=lvlm.end_tokens).tokens(12)]
            )
        for run in runs[1:]:
            assert summary(run) == summary(runs[0])
            for one, other in zip(run[1:], runs[0][1:], strict=True):
                assert one.saliency == pytest.approx(other.saliency, abs=1e-5)
        rejected += sum(len(token.rejected) for token in runs[0])
    assert rejected > 3


def test_candidates_at_one_position_are_one_batched_product(case: tiny.Case) -> None:
    session = Session(case.model, case.inputs)
    session.run([session.last_prompt_token, 12, 33])
    chunk = session.run([7], layers=(2, 3, 4))
    among = [5, 20, 33, 64]
    together = candidate_rows(chunk, among)
    for row, token in zip(together, among, strict=True):
        alone = token_rows(chunk, torch.tensor([token]), retain_graph=True)[0]
        torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-7)


def test_the_layers_below_do_not_run_twice(case: tiny.Case) -> None:
    calls = [0] * 3
    layers = case.model.get_decoder().layers
    for index in range(3):
        layers[index].mlp.register_forward_pre_hook(functools.partial(_count, calls, index))
    session = Session(case.model, case.inputs)
    session.keep_states(2)
    for token in (session.last_prompt_token, 12, 33):
        session.run([token])
    before = list(calls)
    known = session.rescore(session.prompt_length - 1, 3, layers=(2, 3))
    assert [after - earlier for after, earlier in zip(calls, before, strict=True)] == [0, 0, 1]
    whole = Session(case.model, case.inputs).run([session.last_prompt_token, 12, 33], layers=(2, 3))
    torch.testing.assert_close(known.logits, whole.logits, rtol=1e-4, atol=1e-5)


def _count(calls: list[int], index: int, *_: Any) -> None:
    calls[index] += 1


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_an_error_and_no_answer(llava: tiny.Case, wrong: float) -> None:
    def process(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[0, 3] = wrong
        return scores

    with pytest.raises(ConfigError, match="NaN or infinite scores"):
        list(Decoder(Session(llava.model, llava.inputs), processor=process, seed=1).tokens(3))
