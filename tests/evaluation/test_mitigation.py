from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import LVLM, LocoREConfig, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import Guard, compare, repair_guards, retry_guards, sweep_guards
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.claims import is_true, world_claims
from saliency_guard.scenes.language import DESCRIBE

GUARDS = {"nothing": Guard(), "both": Guard(sgrs=SGRSConfig(alpha=0.9), locore=LocoREConfig(beta=0.5))}


def test_guards_are_compared_on_the_same_pictures(lvlm: LVLM) -> None:
    shown = list(pictures("development", 2))
    results, baseline = compare(lvlm, shown, GUARDS, sampled=False, max_new_tokens=24)
    plain, guarded = results
    captions = [lvlm.generate(chat(each.image, DESCRIBE), max_new_tokens=24).text for each in shown]
    scores = [
        score_caption(text, each.scene.counts, ObjectVocabulary.world())
        for text, each in zip(captions, shown, strict=True)
    ]
    assert {name: plain.values[name] for name in chair(scores)} == pytest.approx(chair(scores), nan_ok=True)
    assert plain.values["rejections_per_100_tokens"] == 0
    assert plain.differences == {}
    assert guarded.values["rejections_per_100_tokens"] > 0
    assert guarded.differences["words"].value == pytest.approx(guarded.values["words"] - plain.values["words"])
    again, _ = compare(lvlm, shown, {"both": GUARDS["both"]}, sampled=False, max_new_tokens=24, baseline=baseline)
    assert again[0].differences["words"] == guarded.differences["words"]


def test_repairs_of_one_judged_caption_are_what_repaired_gives(lvlm: LVLM) -> None:
    shown = list(pictures("development", 3))
    guards = {"nothing": Guard(), "half": Guard(repair=0.5), "all": Guard(repair=1.0)}
    (plain, half, everything), _ = compare(lvlm, shown, guards, sampled=False)
    answers = [lvlm.generate(chat(each.image, DESCRIBE), max_new_tokens=96) for each in shown]
    words = [
        len((answer.repaired(threshold=0.5).text if answer.grounding is not None else answer.text).split())
        for answer in answers
    ]
    assert half.values["words"] == pytest.approx(sum(words) / 3)
    assert half.values["unjudged"] == pytest.approx(sum(answer.grounding is None for answer in answers) / 3)
    assert plain.true_claims_kept == 1.0
    assert everything.values["empty"] == pytest.approx(1.0 - everything.values["unjudged"])
    assert everything.true_claims_kept <= half.true_claims_kept <= 1.0


def test_claims_are_counted_against_the_whole_truth(lvlm: LVLM) -> None:
    shown = list(pictures("development", 2))
    (plain,), counts = compare(lvlm, shown, {"nothing": Guard()}, sampled=False)
    truths = [
        is_true(claim, each.scene)
        for each in shown
        for claim in world_claims(lvlm.generate(chat(each.image, DESCRIBE), max_new_tokens=96).text, DESCRIBE)
    ]
    assert plain.values["true_claims"] * 2 == truths.count(True)
    assert plain.values["wrong_claims"] == pytest.approx(truths.count(False) / (len(truths) - truths.count(None)))
    assert counts.shape[0] == 2


def test_captions_of_a_journal_are_not_written_again(lvlm: LVLM, tmp_path: Path) -> None:
    shown = list(pictures("development", 2))
    first, _ = compare(lvlm, shown, GUARDS, sampled=False, max_new_tokens=8, journal=Journal(tmp_path / "j", {}))

    class Silent:
        calibrator = None

    again, _ = compare(Silent(), shown, GUARDS, sampled=False, max_new_tokens=8, journal=Journal(tmp_path / "j", {}))  # type: ignore[arg-type]
    assert repr(again) == repr(first)  # Captions that name nothing have no CHAIR_I: NaN.


def test_the_sweep_has_the_layers_and_the_fallback_of_the_released_code(lvlm: LVLM) -> None:
    guards = sweep_guards()
    assert len(set(guards.values())) == len(guards)
    released = guards["SGRS, released layers, most probable fallback"]
    assert released.saliency is not None
    assert released.saliency.layers == (6 / 32, 9 / 32)
    assert released.sgrs == SGRSConfig(fallback="most_probable")
    assert set(repair_guards(None)) == set()
    least = min(each.risk for each in lvlm.calibrator.repairs if each.kind == "any") if lvlm.calibrator else 0.0
    assert f"repair, P(any wrong claim) at most {least:g}" in repair_guards(lvlm.calibrator)


def test_captions_of_a_policy_are_those_that_it_gives_out(lvlm: LVLM, tmp_path: Path) -> None:
    shown = list(pictures("development", 2))
    guards = {"nothing": Guard(), **retry_guards(lvlm.calibrator)}
    assert len(guards) == 5
    assert len({guard.key for guard in guards.values()}) == 5
    assert retry_guards(None) == {}
    name, guard = list(guards.items())[-1]
    assert name == "2 retries of what fails below 0.9, then repair"
    assert guard.policy is not None
    assert (guard.policy.retry.again, guard.policy.on_low, guard.policy.max_retries) == ("failed", "repair", 2)
    journal = Journal(tmp_path / "j", {})
    (_, retried), _ = compare(
        lvlm, shown, {"nothing": Guard(), name: guard}, sampled=False, max_new_tokens=48, journal=journal
    )
    outcomes = [
        guard.policy.run(lvlm, chat(each.image, DESCRIBE), max_new_tokens=48, seed=each.scene.seed) for each in shown
    ]
    words = [len(outcome.text.split()) for outcome in outcomes]
    assert retried.values["words"] == pytest.approx(sum(words) / 2)
    unscored = [outcome.decision == "unscored" for outcome in outcomes]
    assert retried.values["unjudged"] == pytest.approx(sum(unscored) / 2)
    again, _ = compare(
        lvlm, shown, {"nothing": Guard(), name: guard}, sampled=False, max_new_tokens=48, journal=journal
    )
    assert repr(again[1]) == repr(retried)
