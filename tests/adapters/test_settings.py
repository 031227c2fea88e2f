"""Settings as chains hold them, and the options of a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, DeadlineError, GuardPolicy, shared_lvlm
from saliency_guard.adapters.settings import ServedLVLM
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.options import DEFAULTS, GenerationOptions
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.settings import MAX_SECONDS

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


def test_a_calibrator_judges_the_one_model_that_it_was_fitted_for(lvlm: LVLM, tmp_path: Path) -> None:
    assert lvlm.calibrator is not None
    lvlm.calibrator.save(tmp_path / "judge.json")
    settings = ServedLVLM(calibrator=tmp_path / "judge.json")
    judged = settings.engine()
    assert judged is settings.engine() is not ServedLVLM().engine()
    assert judged.model is ServedLVLM().engine().model
    assert judged.calibrator == lvlm.calibrator
    assert settings.engine(str(EMBEDDED_PATH)).model_id == str(EMBEDDED_PATH)
    assert settings.engine(str(EMBEDDED_PATH)).calibrator is not judged.calibrator
    assert "calibrator" not in settings.model_dump()
    with pytest.raises(ConfigError, match="brings its calibrator"):
        ServedLVLM(lvlm=lvlm, calibrator=lvlm.calibrator)
    with pytest.raises(ConfigError, match="calibrator"):
        ServedLVLM(calibrator=7)  # type: ignore[arg-type]


def test_misspelt_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="temprature"):
        ServedLVLM(temprature=0.5)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="temprature"):
        ServedLVLM().request({"temprature": 0.5})


@pytest.mark.parametrize("name", ["policy", "sgrs", "saliency"])
def test_keys_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        ServedLVLM(**{name: {None: None}})


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


def test_options_have_the_names_of_the_core() -> None:
    fields = set(ServedLVLM.model_fields)
    assert set(GenerationOptions.__annotations__) - fields == {"json_schema", "logits_processor", "verify"}
    assert {name: DEFAULTS[name] for name in ("top_k", "repetition_penalty", "max_new_tokens")} == {  # type: ignore[literal-required]
        name: ServedLVLM.model_fields[name].default for name in ("top_k", "repetition_penalty", "max_new_tokens")
    }
    assert ServedLVLM(max_tokens=7).max_new_tokens == ServedLVLM(max_new_tokens=7).max_new_tokens == 7


def test_every_option_reaches_the_core(lvlm: LVLM, picture: Image.Image) -> None:
    """Each one changes the answer, or is refused by the core where it is out of range."""
    settings = ServedLVLM(lvlm=lvlm, top_k=1, repetition_penalty=9.0, max_new_tokens=12)
    options = settings.request({}).generation
    assert (options["top_k"], options["repetition_penalty"]) == (1, 9.0)
    messages = chat(picture, DESCRIBE)
    plain = lvlm.generate(messages, max_new_tokens=12)
    assert lvlm.generate(messages, **options).text != plain.text
    again = settings.request({"repetition_penalty": None, "temperature": 2.0, "seed": 1}).generation
    assert again["repetition_penalty"] == 9.0  # None leaves what the settings say.
    greedy = settings.request({"repetition_penalty": 1.0, "temperature": 2.0, "seed": 1}).generation
    assert lvlm.generate(messages, **greedy).text == plain.text  # Of one candidate, sampling takes it.

    def only_first_token(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        held = torch.full_like(scores, -torch.inf)
        held[:, plain.tokens[0].token_id] = 0.0
        return held

    held = settings.request({"logits_processor": only_first_token, "max_new_tokens": 3}).generation
    assert {token.token_id for token in lvlm.generate(messages, **held).tokens} == {plain.tokens[0].token_id}
    with pytest.raises(DeadlineError, match="timeout=1e-06"):
        lvlm.generate(messages, **settings.request({"timeout": 1e-6}).generation)


NO_TIME: list[Any] = [float("inf"), float("nan"), -float("inf"), 0, 0.0, -1, 1e300, "x", [1], {}, object()]


@pytest.mark.parametrize("timeout", NO_TIME, ids=range(len(NO_TIME)))
def test_a_timeout_is_a_time_that_can_be_waited_for(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        ServedLVLM(timeout=timeout)
    with pytest.raises(ConfigError, match="timeout"):
        ServedLVLM().request({"timeout": timeout})
    with pytest.raises(ConfigError, match="deadline"):
        GuardPolicy(min_grounding=0.5, deadline=timeout)


def test_times_that_can_be_waited_for() -> None:
    assert ServedLVLM(timeout=MAX_SECONDS).timeout == MAX_SECONDS
    assert ServedLVLM().request({"timeout": 5}).generation["timeout"] == 5.0
    assert ServedLVLM(timeout=5).request({"timeout": None}).generation["timeout"] is None
    assert GuardPolicy(min_grounding=0.5, deadline=MAX_SECONDS).deadline == MAX_SECONDS


WRONG: list[tuple[str, Any]] = [
    *[("temperature", value) for value in ("hot", -1, float("nan"), float("inf"), [1], {}, object())],
    *[("top_p", value) for value in ("x", 0, 1.5, float("nan"), [1])],
    *[("top_k", value) for value in ("x", 0, -1, 1.5, [1])],
    *[("repetition_penalty", value) for value in ("x", 0, -1, float("nan"), float("inf"), [1])],
    *[("max_new_tokens", value) for value in ("x", 0, -1, 1.5, [1], float("nan"))],
    *[("seed", value) for value in ("x", 1.5, [1], 10**30, 10**5000)],
    *[("stop", value) for value in (7, [7], [None], "", [""], {"a": 1}, ["a"] * 5000, "x" * 10**6)],
    *[("policy", value) for value in (7, "x", {"min_grounding": "x"}, [1])],
    *[("sgrs", value) for value in (7, "x", True, [1])],
    *[("locore", value) for value in (7, "x", True)],
    *[("saliency", value) for value in (7, "x", True)],
    *[("signals", value) for value in (7, ["nothing"], [7], [None], [[1]])],
    *[("model", value) for value in (7, [1], object())],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=range(len(WRONG)))
def test_settings_of_the_wrong_kind_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refusal:
        ServedLVLM().request({name: value})
    assert len(str(refusal.value)) < 2000
    if name != "signals" or not isinstance(value, list) or value != ["nothing"]:
        with pytest.raises(ConfigError, match=name):
            ServedLVLM(**{name: value})


def test_tools_of_the_wrong_kind_are_refused() -> None:
    for wrong in ([7], "look", [{"function": "look"}]):
        with pytest.raises(ConfigError, match="tool"):
            ServedLVLM().request({}, tools=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="tool"):
            ServedLVLM().request({}, forced=wrong)  # type: ignore[arg-type]


def test_stops_of_both_have_one_limit() -> None:
    with pytest.raises(ConfigError, match="at most"):
        ServedLVLM(stop=[f"a{number}" for number in range(40)]).request({}, stop=[f"b{n}" for n in range(40)])
