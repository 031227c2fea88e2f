"""Settings as chains hold them, what a call makes of them, and answers judged with them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from saliency_guard import LVLM, Calibrator, ConfigError, GuardPolicy, ModelError, SignalRule, shared_lvlm
from saliency_guard.adapters.settings import Judge, ServedLVLM
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.scenes.language import DESCRIBE

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_one_loaded_model_for_equal_settings(lvlm: LVLM) -> None:
    first = ServedLVLM().engine()
    assert ServedLVLM(temperature=0.5).engine() is first
    assert shared_lvlm(device=None, dtype="auto", revision=None, require_image=False) is first
    assert ServedLVLM(require_image=True).engine() is not first
    own = ServedLVLM(lvlm=lvlm)
    assert own.engine() is lvlm
    assert own.engine("embedded") is lvlm
    assert own.served_name == lvlm.model_id
    assert ServedLVLM(model_name="some/model").served_name == "some/model"


def test_misspelt_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="temprature"):
        ServedLVLM(temprature=0.5)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="temprature"):
        ServedLVLM().request({"temprature": 0.5})


def test_a_call_sets_what_it_names() -> None:
    settings = ServedLVLM(max_new_tokens=7, stop="cat", temperature=0.5)
    plain = settings.request({})
    assert plain.generation["max_new_tokens"] == 7
    assert plain.generation["stop"] == ("cat",)
    assert plain.live
    asked = settings.request({"max_new_tokens": 9, "seed": 3, "temperature": None}, stop=["dog", "cat"])
    assert asked.generation["max_new_tokens"] == 9
    assert asked.generation["seed"] == 3
    assert asked.generation["temperature"] == 0.5
    assert asked.generation["stop"] == ("cat", "dog")
    assert settings.request({"stop_sequences": "dog"}).generation["stop"] == ("dog",)


def test_tools_and_schemas() -> None:
    settings = ServedLVLM()
    told = settings.request({}, tools=[TOOL])
    assert (told.tools, told.forced, told.live) == ([TOOL], [], False)
    forced = settings.request({}, tools=[TOOL], forced=[TOOL], json_schema={"type": "object"})
    assert (forced.tools, forced.forced, forced.live) == ([], [TOOL], False)
    assert forced.generation["json_schema"]["properties"]["name"] == {"const": "look"}
    held = settings.request({}, json_schema={"type": "object"})
    assert held.generation["json_schema"] == {"type": "object"}
    assert held.live
    assert not settings.request({"policy": GuardPolicy(min_grounding=0.5)}).live


def test_a_judge_looks_at_what_the_policy_needs(lvlm: LVLM, picture: Image.Image, tmp_path: Path) -> None:
    messages = chat(picture, DESCRIBE)
    plain = GuardPolicy(min_grounding=0.5)
    ruled = GuardPolicy(rules=(SignalRule("contrast", below=0.0),))
    judge = Judge(lvlm)
    assert judge.score(messages, "There is a zebra.", plain) == lvlm.score(messages, "There is a zebra.")
    assert "contrast" in judge.score(messages, "There is a zebra.", ruled).tokens[0].signals
    written = judge.write(messages, plain, max_new_tokens=5)
    assert written == lvlm.generate(messages, max_new_tokens=5)
    assert Judge("embedded").lvlm is Judge().lvlm is ServedLVLM().engine()
    own = Calibrator.load(EMBEDDED_PATH / "calibrator.json")
    lost = LVLM(lvlm.model, lvlm.processor, model_id=lvlm.model_id)
    assert Judge(lost).score(messages, "There is a zebra.", plain).grounding is None
    assert Judge(lost).score(messages, "There is a zebra.", plain.model_copy(update={"calibrator": own})).calibrated


def test_a_judge_fetches_what_its_settings_fetch(lvlm: LVLM) -> None:
    def fetch(url: str) -> bytes:
        return url.encode()

    assert Judge(ServedLVLM(fetch_image=fetch)).fetch_image is fetch
    assert Judge(lvlm).fetch_image is None


def test_settings_are_copied_and_sent_and_models_are_not(lvlm: LVLM) -> None:
    """Whoever gets settings in another process loads the model there; a loaded one does not go along."""
    served = ServedLVLM(temperature=0.5, policy=GuardPolicy(min_grounding=0.5, calibrator=lvlm.calibrator))
    for again in (copy.copy(served), copy.deepcopy(served), pickle.loads(pickle.dumps(served))):  # noqa: S301
        assert again == served
        assert again.engine() is served.engine()
    judge = Judge(served)
    for other in (copy.copy(judge), copy.deepcopy(judge), pickle.loads(pickle.dumps(judge))):  # noqa: S301
        assert other.lvlm is judge.lvlm
    for holder in (ServedLVLM(lvlm=lvlm), Judge(lvlm)):
        for thing in (holder, [holder]):
            with pytest.raises(ModelError, match="cannot be pickled"):
                pickle.dumps(thing)
        copied = copy.deepcopy(holder)
        inner = copied.engine() if isinstance(copied, ServedLVLM) else copied.lvlm
        assert inner.model is not lvlm.model
        same = copy.copy(holder)
        assert (same.engine() if isinstance(same, ServedLVLM) else same.lvlm) is lvlm
