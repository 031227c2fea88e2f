"""One model per process and configuration."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import InputError, ModelError, clear_model_cache, shared_lvlm
from saliency_guard.chat.messages import chat


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    clear_model_cache()
    yield
    clear_model_cache()


def test_one_model_for_all_who_ask_at_once() -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: shared_lvlm(), range(6)))
    assert len({id(item.model) for item in found}) == 1
    assert shared_lvlm(require_image=False) is not found[0]
    assert shared_lvlm(require_image=False) is shared_lvlm(require_image=False)


def test_a_calibrator_has_no_weights_of_its_own(tmp_path: Path) -> None:
    plain = shared_lvlm()
    assert plain.calibrator is not None
    plain.calibrator.save(tmp_path / "judge.json")
    by_place = shared_lvlm(calibrator=tmp_path / "judge.json")
    by_object = shared_lvlm(calibrator=plain.calibrator)
    assert by_place.model is by_object.model is plain.model
    assert by_place.calibrator == by_object.calibrator == plain.calibrator
    assert shared_lvlm(calibrator=str(tmp_path / "judge.json")) is by_place
    assert shared_lvlm(calibrator=plain.calibrator) is by_object
    assert shared_lvlm() is plain
    with pytest.raises(InputError, match="nowhere"):
        shared_lvlm(calibrator=tmp_path / "nowhere.json")


def test_threads_get_the_answers_of_serial_calls() -> None:
    lvlm = shared_lvlm()
    asked = [chat(Image.new("RGB", (64, 64), colour), "Describe the image.") for colour in ("red", "teal", "white")] * 2
    serial = [lvlm.generate(item, max_new_tokens=20) for item in asked]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda item: lvlm.generate(item, max_new_tokens=20), asked))
    assert [[token.token_id for token in answer.tokens] for answer in answers] == [
        [token.token_id for token in answer.tokens] for answer in serial
    ]
    for answer, alone in zip(answers, serial, strict=True):  # Rows of a batch differ in the last bits of float32.
        assert [token.logprob for token in answer.tokens] == pytest.approx(
            [token.logprob for token in alone.tokens], rel=1e-3, abs=1e-5
        )


def test_what_cannot_be_loaded_is_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(ModelError):
            shared_lvlm("there/is/no/such/model")
