"""The caller's model is left as it was found."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from saliency_guard import (
    LVLM,
    GroundedAnswer,
    InputError,
    LocoREConfig,
    NonFiniteError,
    SaliencyConfig,
    SGRSConfig,
    UnsupportedModelError,
    saliency_map,
    score_answer,
    sgrs_generate,
)
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.session import Session


def state(model: torch.nn.Module) -> dict[str, Any]:
    return {
        "implementations": [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")],
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "ropes": [m.rope_deltas for m in model.modules() if hasattr(m, "rope_deltas")],
        "grad_mode": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    buffers, others = before.pop("buffers"), after.pop("buffers")
    assert before == after
    assert all(torch.equal(buffers[name], others[name]) for name in buffers)


USES: dict[str, Callable[[tiny.Case], Any]] = {
    "score": lambda c: score_answer(c.model, c.inputs, tiny.ANSWER, locore=LocoREConfig()),
    "score by matrix": lambda c: score_answer(
        c.model, c.inputs, tiny.ANSWER, config=SaliencyConfig(normalization="matrix")
    ),
    "map": lambda c: saliency_map(c.model, c.inputs, tiny.ANSWER, 2),
    "generate": lambda c: c.model.generate(
        **c.inputs, custom_generate=sgrs_generate, sgrs=SGRSConfig(alpha=0.9), locore=LocoREConfig(), max_new_tokens=9
    ),
}


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_left_as_found_after_success(case: tiny.Case, use: str, implementation: str) -> None:
    case.model.set_attn_implementation(implementation)
    case.model.train()
    frozen = next(iter(case.model.parameters()))
    frozen.requires_grad_(requires_grad=False)
    next(m for m in case.model.modules() if m is not case.model).training = False
    case.model(**case.inputs)  # transformers puts its own output-capturing hooks in place on first use
    before = state(case.model)
    ropes = before.pop("ropes")
    USES[use](case)
    after = state(case.model)
    if use == "generate":  # transformers' own `generate` sets its rope state before ours begins
        after.pop("ropes")
    else:
        assert ropes == after.pop("ropes")
    assert_same(before, after)


@pytest.mark.parametrize("whole", [True, False])
def test_a_model_its_owner_has_compiled_gives_the_same(llava: tiny.Case, *, whole: bool) -> None:
    llava.model.config.text_config.num_hidden_layers = 2  # Torch takes seconds to compile a layer.
    llava.model.get_decoder().layers = llava.model.get_decoder().layers[:2]

    def tokens() -> list[tuple[int, float | None]]:
        decoder = Decoder(Session(llava.model, llava.inputs, locore=LocoREConfig()), sgrs=SGRSConfig(draft_length=4))
        return [(token.token_id, token.grounding.saliency) for token in decoder.tokens(6)]

    plain = tokens()
    for module in [llava.model] if whole else llava.model.get_decoder().layers:
        module.compile(backend="eager", dynamic=True)
    with torch.no_grad():
        llava.model(torch.tensor([[1, 5, 7]]))
    assert tokens() == plain


def test_dropout_is_off_while_scoring_a_model_in_training(llava: tiny.Case) -> None:
    for module in llava.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    plain = score_answer(llava.model, llava.inputs, tiny.ANSWER)
    llava.model.train()
    assert torch.equal(plain.saliency[1:], score_answer(llava.model, llava.inputs, tiny.ANSWER).saliency[1:])


def test_left_as_found_after_an_error(case: tiny.Case) -> None:
    session = Session(case.model, case.inputs, locore=LocoREConfig())
    before, length = state(case.model), session.length

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = case.model.get_decoder().layers[-1].register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        session.run([session.last_prompt_token, 5, 6], layers=(1, 2))
    handle.remove()
    assert_same(before, state(case.model))
    assert session.length == length
    assert {layer.keys.shape[2] for layer in session.cache.layers} == {length}
    session.run([session.last_prompt_token, 5, 6], layers=(1, 2))


def test_left_as_found_between_tokens_and_after_an_abandoned_stream(case: tiny.Case) -> None:
    decoder = Decoder(Session(case.model, case.inputs, locore=LocoREConfig()), sgrs=SGRSConfig(draft_length=2))
    before = state(case.model)
    stream = decoder.tokens(20)
    for _ in range(5):
        next(stream)
        assert_same(dict(before), state(case.model))
    del stream
    gc.collect()
    assert_same(before, state(case.model))


def test_the_cache_holds_no_graph(case: tiny.Case) -> None:
    session = Session(case.model, case.inputs)
    session.run([session.last_prompt_token, 4, 5], layers=(0, 1))
    assert not any(layer.keys.requires_grad or layer.values.requires_grad for layer in session.cache.layers)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_grad_mode_of_the_caller_will_do(llava: tiny.Case, context: Callable[[], Any]) -> None:
    plain = score_answer(llava.model, llava.inputs, tiny.ANSWER)
    with context():
        mode = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        inputs = {name: value.clone() for name, value in llava.inputs.items()}
        scores = score_answer(llava.model, inputs, tiny.ANSWER)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == mode
        assert torch.equal(plain.saliency[1:], scores.saliency[1:])


def test_two_threads_on_one_model_do_not_meet(llava: tiny.Case) -> None:
    expected = score_answer(llava.model, llava.inputs, tiny.ANSWER).saliency[1:]
    results: list[bool] = []

    def work() -> None:
        for _ in range(5):
            results.append(torch.equal(score_answer(llava.model, llava.inputs, tiny.ANSWER).saliency[1:], expected))
            llava.model(**llava.inputs)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


def test_two_prompts_of_a_model_with_rope_state_do_not_meet() -> None:
    case = tiny.build("qwen2-vl")
    text = {"input_ids": torch.tensor([[1, 5, 7, 9, 10]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    alone = [decoded(case, case.inputs), decoded(case, text)]
    streams = [Decoder(Session(case.model, inputs)).tokens(8) for inputs in (case.inputs, text)]
    mixed = [[t.token_id for t in turn] for turn in zip(*streams, strict=True)]
    assert [list(ids) for ids in zip(*mixed, strict=True)] == alone


def decoded(case: tiny.Case, inputs: dict) -> list[int]:
    return [t.token_id for t in Decoder(Session(case.model, inputs)).tokens(8)]


def test_nan_logits_are_an_error_that_names_a_way_out(llava: tiny.Case) -> None:
    with torch.no_grad():
        llava.model.lm_head.weight[3, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="float32"):
        score_answer(llava.model, llava.inputs, tiny.ANSWER)


@pytest.mark.parametrize("use", ["saliency", "locore"])
def test_attention_of_another_make_is_refused(llava: tiny.Case, use: str) -> None:
    """A layer that calculates attention by itself can be neither read nor changed."""
    attention = llava.model.get_decoder().layers[3].self_attn

    def own(hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        return attention.o_proj(attention.q_proj(hidden_states)), None

    attention.forward = own
    config = SaliencyConfig(layers=[3]) if use == "saliency" else SaliencyConfig(layers=[4])
    locore = LocoREConfig(layers=[3]) if use == "locore" else None
    llava.model(**llava.inputs)
    before = state(llava.model)
    with pytest.raises(UnsupportedModelError, match="layers \\[3\\]"):
        score_answer(llava.model, llava.inputs, tiny.ANSWER, config=config, locore=locore)
    assert_same(before, state(llava.model))


def test_inputs_that_contradict_each_other_are_refused(llava: tiny.Case) -> None:
    llava.model(**llava.inputs)
    before = state(llava.model)
    with pytest.raises(InputError, match="does not take these inputs"):
        score_answer(llava.model, dict(llava.inputs, pixel_values=llava.inputs["pixel_values"][:1]), tiny.ANSWER)
    assert_same(before, state(llava.model))


def test_a_prompt_that_ends_with_an_image_is_refused(llava: tiny.Case) -> None:
    inputs = dict(llava.inputs, input_ids=llava.inputs["input_ids"][:, :12], attention_mask=torch.ones(1, 12))
    with pytest.raises(InputError, match="ends with an image"):
        score_answer(llava.model, inputs, tiny.ANSWER)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns a thousand times as often, so that what can go wrong between them does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def in_threads(*work: Callable[[], None]) -> None:
    """Run callables side by side; the first exception of any is raised here."""
    with ThreadPoolExecutor(len(work)) as pool:
        for job in [pool.submit(task) for task in work]:
            job.result()


def assert_same_answer(answer: GroundedAnswer, alone: GroundedAnswer) -> None:
    """Equal but for the last bits of float32, in which rows of a batch differ."""
    assert [token.token_id for token in answer.tokens] == [token.token_id for token in alone.tokens]
    for name in ("logprob", "saliency"):
        values, expected = ([getattr(token, name) or 0.0 for token in each.tokens] for each in (answer, alone))
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert answer.grounding == pytest.approx(alone.grounding, rel=1e-3, abs=1e-5)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_that_score_and_write_with_one_lvlm_get_what_one_alone_gets(lvlm: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, "Describe the image in detail.")
    texts = ["There is a dog in the image.", "Two cups are on the left of a big elephant.", "Yes, there is."]
    alone = {text: LVLM.load().score(messages, text) for text in texts}
    written = LVLM.load().generate(messages, max_new_tokens=12)
    shared = LVLM.load()

    def score(first: int) -> None:
        for turn in range(6):
            text = texts[(first + turn) % len(texts)]
            assert_same_answer(shared.score(messages, text), alone[text])

    def write() -> None:
        for _ in range(3):
            assert_same_answer(shared.generate(messages, max_new_tokens=12), written)

    in_threads(partial(score, 0), partial(score, 1), write)
    for text in texts:  # Nothing wrong is kept.
        assert_same_answer(shared.score(messages, text), alone[text])


def test_another_threads_own_pass_is_neither_kept_nor_cut_short(llava: tiny.Case) -> None:
    """A caller may run the model without our lock, while a pass of ours has hooks in place."""
    expected = llava.model(**llava.inputs).logits
    session = Session(llava.model, llava.inputs)
    session.keep_states(2)
    seen: list[torch.Tensor] = []

    def run_elsewhere(*_: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(llava.model(**llava.inputs).logits.detach()))
        if not seen:
            handle.remove()
            thread.start()
            thread.join()

    handle = llava.model.get_decoder().layers[0].register_forward_pre_hook(run_elsewhere)
    session.run([session.last_prompt_token, 5, 6])
    assert torch.equal(seen[0], expected)
    assert [tuple(states.shape[:2]) for states in session.states] == [(1, 1)] * 3


def test_a_logits_processor_may_wait_for_a_thread_that_needs_the_model(llava: tiny.Case) -> None:
    def process(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        in_threads(lambda: score_answer(llava.model, llava.inputs, tiny.ANSWER))
        return scores

    def write() -> None:
        [
            token.grounding
            for token in Decoder(Session(llava.model, llava.inputs), sgrs=SGRSConfig(), processor=process).tokens(3)
        ]

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
