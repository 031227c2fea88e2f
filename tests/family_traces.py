"""What a trace of an answer has to hold for a family of models: the column "signals" of docs/models.md."""

from __future__ import annotations

import families
import numpy as np
import oracle
import tiny
import torch
from family_parts import prefixed
from torch.nn import functional

from saliency_guard import SaliencyConfig, score_answer
from saliency_guard.calibration.features import GROUPS, features
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.models.entered_pictures import entered_pictures
from saliency_guard.models.forward import forget_rope, undisturbed
from saliency_guard.models.inputs import unpadded
from saliency_guard.models.layer_states import entry_states
from saliency_guard.models.lens import has_lens
from saliency_guard.models.prompt_batch import next_logits
from saliency_guard.models.session import Session
from saliency_guard.models.vision_features import RECOGNITION, Mirrored, picture_features
from saliency_guard.signals.trace import AnswerTrace, trace_answer, trace_answers


def traced(name: str) -> None:
    """What signals and calibration read: attention on the pictures, of every head, and the states."""
    if name in families.ACROSS:
        traced_across(name)
        return
    case = families.build(name)
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    marked = families.picture_positions(case)
    for target in (0, 4):
        attention, gradient, _ = oracle.token_maps(case.model, case.inputs, tiny.ANSWER, target)
        wanted = attention[:, :, -1, : len(marked)][..., marked].sum(-1).to(trace.attention)
        torch.testing.assert_close(trace.attention[target, ..., 0], wanted, rtol=1e-3, atol=1e-5)
        product = (attention * gradient)[:, :, -1]
        wanted = product[..., : len(marked)][..., marked].abs().sum(-1) / product.abs().sum()
        ours = trace.saliency[target][..., 0] / trace.saliency[target].sum()
        torch.testing.assert_close(ours, wanted.to(ours), rtol=2e-3, atol=1e-5)
    width = case.model.config.get_text_config().hidden_size
    assert trace.image_states[0].shape == (int(marked.sum()), width)
    assert trace.output_states[-1].shape == (len(tiny.ANSWER) + 1, width)
    assert bool(trace.blank_logprobs.isfinite().all())
    as_scored(case, trace)
    traced_together(name)
    asked_about(name)


def traced_across(name: str) -> None:
    """The same where pictures are seen across: what looks at them are some layers, and what they see are no states."""
    case = families.build(name)
    trace = trace_answer(case.model, case.inputs, tiny.ANSWER)
    looking = sorted(case.model.config.get_text_config().cross_attention_layers)
    for target in (0, 4):
        logits, attentions = oracle.forward(case.model, case.inputs, tiny.ANSWER[:target], None)
        loss = functional.cross_entropy(logits[-1][None], torch.tensor([tiny.ANSWER[target]]))
        products = [a * g for a, g in zip(attentions, torch.autograd.grad(loss, attentions), strict=True)]
        whole = sum(product[0, :, -1].detach().abs().sum() for product in products)
        for layer, (attention, product) in enumerate(zip(attentions, products, strict=True)):
            row, gradient = (values[0, :, -1].detach().to(trace.attention) for values in (attention, product))
            sees = trace.attention[target, layer, :, 0]
            torch.testing.assert_close(sees, row.sum(-1) if layer in looking else 0 * sees, rtol=1e-3, atol=1e-5)
            ours = trace.saliency[target, layer].sum(-1) / trace.saliency[target].sum()
            torch.testing.assert_close(ours, gradient.abs().sum(-1) / whole, rtol=2e-3, atol=1e-5, check_dtype=False)
    with torch.no_grad():
        seen = {key: value for key, value in case.inputs.items() if key.startswith(("pixel", "aspect"))}
        states = case.model.model.vision_model(**seen).last_hidden_state
        expected = case.model.model.multi_modal_projector(states).flatten(0, -2)
    torch.testing.assert_close(trace.image_states[0], expected, rtol=1e-4, atol=1e-5)
    assert trace.output_states[-1].shape == (len(tiny.ANSWER) + 1, 32)
    assert bool(trace.blank_logprobs.isfinite().all())
    as_scored(case, trace)
    traced_together(name)
    asked_about(name)


def asked_about(name: str) -> None:
    """Questions that follow a prompt's pictures, asked side by side or in turns: logits of plain passes, as
    verification reads them."""
    case = families.build(name)
    prompts = [oracle.extended(case.model, case.inputs, tail) for tail in ([12, 33], [7], [51, 64, 9])]
    for inputs in prompts:
        if case.model.config.model_type == "paligemma":  # All of a prompt is prefix.
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    base = Session(case.model, case.inputs)
    laid_out = [(unpadded(inputs), prompt_layout(case.model.config, inputs)) for inputs in prompts]
    for inputs, logits in zip(prompts, next_logits(base, laid_out, batch_size=2), strict=True):
        with torch.no_grad():
            plain = case.model(**inputs).logits[0, -1]
        torch.testing.assert_close(logits, plain.to(logits), rtol=1e-3, atol=1e-4)


def as_scored(case: tiny.Case, trace: AnswerTrace) -> None:
    """A trace's scores and shares are those of `score_answer`; its groups of features are numbers of a fixed size."""
    scores = score_answer(case.model, case.inputs, tiny.ANSWER)
    ours = trace.scores  # Its logits are of single precision.
    torch.testing.assert_close(ours.saliency.double(), scores.saliency.double(), rtol=1e-4, atol=1e-7, equal_nan=True)
    possible = scores.logprobs > -1e4  # Some rule tokens out, by numbers that single precision does not have.
    wanted = scores.logprobs.double()[possible]
    torch.testing.assert_close(ours.logprobs.double()[possible], wanted, rtol=1e-4, atol=1e-5)
    for source, share in scores.shares.items():
        torch.testing.assert_close(ours.shares[source], share, rtol=1e-3, atol=1e-6)
    for group, values in features(trace, GROUPS).items():
        assert len(values) == len(tiny.ANSWER)
        assert group == "evidence" or np.isfinite(values[2:][possible[2:].numpy()]).all(), group


def entered_as_read(session: Session) -> None:
    """What enters the first layer, without running it, is what was there when the prompt was read."""
    if session.layout.across or not has_lens(session.model):
        return
    assert session.image_states is not None
    first = session.image_states[0]
    with undisturbed(session.model):
        forget_rope(session.model)
        entered = entry_states(session.model, session.inputs)[0][session.layout.image_positions]
    torch.testing.assert_close(entered, first, rtol=1e-4, atol=1e-5)
    changed = {
        name: -value if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in session.inputs.items()
    }
    prompts = [(inputs, session.layout) for inputs in (session.inputs, changed, session.inputs)]
    together = entered_pictures(session.model, prompts)
    for prompt, states in zip(prompts, together, strict=True):
        (alone,) = entered_pictures(session.model, [prompt])
        torch.testing.assert_close(states, alone, rtol=1e-4, atol=1e-5)
    assert not torch.equal(together[0], together[1])
    (features,) = picture_features([session], [Mirrored(together[2], session.layout)])
    assert float(features[:, -1].max()) < 1e-3


def traced_together(name: str) -> None:
    """Answers to prompts of several lengths, traced side by side or in turns, are traced as if each were alone; and
    every picture has its features."""
    case = families.build(name)
    prompts = [case.inputs, prefixed(case, [1, 7, 5])]
    answers = [tiny.ANSWER, tiny.ANSWER[:5]]
    sessions = [Session(case.model, inputs, with_image_states=True) for inputs in prompts]
    pictured = picture_features(sessions, [None] * len(sessions))
    for inputs, answer, trace in zip(prompts, answers, trace_answers(sessions, answers, SaliencyConfig()), strict=True):
        alone = trace_answer(case.model, inputs, answer)
        for field in ("attention", "logits", "rows"):
            torch.testing.assert_close(getattr(trace, field), getattr(alone, field), rtol=1e-3, atol=1e-4)
    for session, rows in zip(sessions, pictured, strict=True):
        assert len(rows) == len(session.layout.visual_sources)
        assert bool(rows[:, : -RECOGNITION - 1].isfinite().all())
        entered_as_read(session)
    if case.model.config.model_type != "kosmos-2.5":  # It adds where a picture stands in the prompt to what it shows.
        pooled = [rows[:, : -RECOGNITION - 1] for rows in pictured]
        torch.testing.assert_close(*pooled, rtol=1e-3, atol=1e-4)
