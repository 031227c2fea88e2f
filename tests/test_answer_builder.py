"""Answers get the grounding that a calibration gives them, however they were made; and none where none fits."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic
from PIL import Image

from saliency_guard import LVLM, CalibrationMismatchError, Calibrator, LocoREConfig, SaliencyConfig, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="module")
def messages(picture: Image.Image) -> list[dict[str, Any]]:
    return chat(picture, DESCRIBE)


def close(one: float | None, other: float | None) -> bool:
    return one == pytest.approx(other, abs=1e-4)


def test_what_counts_has_a_grounding(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    answer = lvlm.generate(messages)
    assert answer.calibrated
    assert 0 < answer.grounding < 1
    assert answer.grounding_reason is None
    assert answer.claims
    for claim in answer.claims:
        assert answer.text[slice(*claim.span)] == claim.text
        assert 0 < claim.grounding < 1
        assert 0 < claim.verified < 1
        assert claim.source == "image_0"
    groundings = {token.grounding for token in answer.tokens} - {None}
    assert groundings <= {claim.grounding for claim in answer.claims}
    assert len(answer.domain) == 1
    assert answer.to_dict()["grounding"] == answer.grounding


@pytest.mark.parametrize("locore", [None, LocoREConfig()])
def test_the_same_text_has_the_same_grounding_however_it_was_written(
    lvlm: LVLM, messages: list[dict[str, Any]], locore: LocoREConfig | None
) -> None:
    written = lvlm.generate(messages, sgrs=SGRSConfig(min_p=0.5), locore=locore, max_new_tokens=20)
    scored = lvlm.score(messages, written.text)
    assert [token.token_id for token in scored.tokens] == [token.token_id for token in written.tokens]
    assert close(written.grounding, scored.grounding)
    assert all(close(one.grounding, two.grounding) for one, two in zip(written.tokens, scored.tokens, strict=True))
    batch = lvlm.generate_batch([messages, messages], sgrs=SGRSConfig(min_p=0.5), locore=locore, max_new_tokens=20)
    assert all(close(item.grounding, written.grounding) for item in batch)
    fresh = lvlm.score_batch([(messages, written.text), (messages, "A red cat.")])
    assert close(fresh[0].grounding, written.grounding)


def test_where_nothing_fits_there_is_no_number(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    for answer in (
        lvlm.generate(messages, saliency=None, max_new_tokens=8),
        lvlm.score(messages, "A cat.", saliency=SaliencyConfig(layers=(0.0, 1.0))),
        lvlm.score(messages, "A cat.", saliency=SaliencyConfig(normalization="matrix")),
        lvlm.with_calibrator(None).score(messages, "A cat."),
    ):
        assert answer.grounding is None
        assert not answer.calibrated
        assert all(token.grounding is None for token in answer.tokens)


def test_a_text_without_a_picture_has_no_grounding(lvlm: LVLM) -> None:
    bare = LVLM(lvlm.model, lvlm.processor, require_image=False).with_calibrator(lvlm.calibrator)
    asked = [{"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}]
    assert bare.score(asked, "A red cat.").grounding is None


def test_a_calibration_of_another_model_is_refused_or_marked(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    foreign = Calibrator.fit(synthetic.records(200), features="signals", held_out=0.0)
    with pytest.raises(CalibrationMismatchError, match="weights") as caught:
        lvlm.with_calibrator(foreign)
    assert {"weights", "template"} <= set(caught.value.differing)
    let_in = lvlm.with_calibrator(foreign, allow_mismatch=True).score(messages, "A red cat.")
    assert let_in.grounding is not None
    assert not let_in.calibrated
    assert lvlm.score(messages, "A red cat.").calibrated


def test_other_weights_are_told_apart(lvlm: LVLM) -> None:
    changed = LVLM.load()
    weight = changed.model.get_decoder().layers[-1].self_attn.q_proj.weight
    weight.data *= 1.5
    with pytest.raises(CalibrationMismatchError, match="weights"):
        changed.with_calibrator(lvlm.calibrator)


def test_in_another_precision_the_own_calibration_is_left_out() -> None:
    assert LVLM.load().calibrator is not None
    with pytest.warns(UserWarning, match="dtype"):
        assert LVLM.load(dtype="bfloat16").calibrator is None


def test_an_answer_may_hold_the_image_token_itself(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    token = lvlm.tokenizer.decode([lvlm.model.config.image_token_id])
    assert lvlm.score(messages, f"A red cat {token} there.").grounding is not None


def test_the_mirrored_pictures_of_a_batch_are_looked_at_side_by_side(lvlm: LVLM, picture: Image.Image) -> None:
    chats = [
        (chat(picture.rotate(angle), "Is there a dog?"), "No, there is no dog in the image.") for angle in range(4)
    ]
    calls: list[int] = []
    hook = lvlm.model.model.vision_tower.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    try:
        together = lvlm.score_batch(chats)
    finally:
        hook.remove()
    assert calls.count(4) == 1
    for pair, answer in zip(chats, together, strict=True):
        assert answer.domain == pytest.approx(lvlm.score(*pair).domain, abs=1e-3)
