"""Answers scored with a local model, as a policy's calibrator was fitted."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from saliency_guard import LVLM, Calibrator, ConfigError, GuardPolicy, SaliencyConfig, SignalRule
from saliency_guard.adapters.citations import Documents
from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.adapters.settings import ServedLVLM
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE

TEXT = "There is a zebra."
OTHER = SaliencyConfig(layers=(0.0, 1.0))


@pytest.fixture(scope="module")
def uncalibrated(lvlm: LVLM) -> LVLM:
    return lvlm.with_calibrator(None)


@pytest.fixture(scope="module")
def fitted_otherwise(lvlm: LVLM) -> Calibrator:
    """The embedded model's calibrator, as if it had been fitted with other saliency settings."""
    calibrator = lvlm.calibrator
    assert calibrator is not None
    fingerprint = calibrator.fingerprint.model_copy(update={"saliency": OTHER})
    return calibrator.model_copy(update={"fingerprint": fingerprint})


def test_the_policy_decides_what_is_computed(lvlm: LVLM, uncalibrated: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    plain = GuardPolicy(min_grounding=0.5)
    scorer = LocalScorer(lvlm)
    assert scorer.score(messages, TEXT, plain) == scorer.score(messages, TEXT) == lvlm.score(messages, TEXT)
    ruled = GuardPolicy(rules=(SignalRule("contrast", below=0.0),))
    assert "contrast" in scorer.score(messages, TEXT, ruled).tokens[0].signals
    assert scorer.write(messages, plain, max_new_tokens=5) == lvlm.generate(messages, max_new_tokens=5)
    assert LocalScorer("embedded").lvlm is LocalScorer().lvlm is ServedLVLM().engine()
    with pytest.raises(ConfigError, match="there is no calibrator"):
        LocalScorer(uncalibrated).score(messages, TEXT, plain)
    calibrated = plain.model_copy(update={"calibrator": lvlm.calibrator})
    assert LocalScorer(uncalibrated).score(messages, TEXT, calibrated).calibrated


def test_answers_are_scored_as_the_calibrator_was_fitted(
    uncalibrated: LVLM, fitted_otherwise: Calibrator, picture: Image.Image
) -> None:
    messages = chat(picture, DESCRIBE)
    calibrated = uncalibrated.with_calibrator(fitted_otherwise)
    wanted = calibrated.score(messages, TEXT, saliency=OTHER)
    assert wanted.grounding is not None
    assert calibrated.score(messages, TEXT).grounding is None  # With the default settings no calibration fits.
    by_policy = GuardPolicy(min_grounding=0.5, calibrator=fitted_otherwise)
    for scorer, policy in (
        (LocalScorer(uncalibrated), by_policy),
        (LocalScorer(calibrated), GuardPolicy(min_grounding=0.5)),
        (LocalScorer(calibrated), None),
    ):
        assert scorer.score(messages, TEXT, policy) == wanted
        assert asyncio.run(scorer.ascore(messages, TEXT, policy)) == wanted
        written = scorer.write(messages, policy, max_new_tokens=8)
        assert written.grounding is not None
        assert by_policy.check(scorer.score(messages, TEXT, policy)).score == wanted.grounding


def test_a_document_that_could_not_be_judged_grounds_nothing(lvlm: LVLM) -> None:
    evidence = Documents([[{"type": "image", "image": Image.new("RGB", (224, 224), "teal")}]], DESCRIBE)
    *_, judged = evidence.judging(LocalScorer(lvlm), TEXT, None)
    assert judged is not None
    assert "unlike" in (judged.answer.grounding_reason or "")
    assert judged.documents == (None,)


def test_pictures_are_fetched_as_the_settings_say(lvlm: LVLM) -> None:
    def fetch(url: str) -> bytes:
        return url.encode()

    assert LocalScorer(ServedLVLM(fetch_image=fetch)).fetch_image is fetch
    assert LocalScorer(lvlm).fetch_image is None
