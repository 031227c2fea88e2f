"""A model as chains and agents hold it: its settings, and what one call of it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from saliency_guard.adapters.shared_models import shared_lvlm
from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.tools import Tool, call_schema
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig

_OF_GENERATE = ("temperature", "top_p", "seed", "sgrs", "locore", "saliency", "signals")
_OF_A_CALL = ("model", "max_tokens", "stop", "timeout", "policy", *_OF_GENERATE)
_OTHER_NAMES = {"max_new_tokens": "max_tokens", "model_name": "model", "stop_sequences": "stop"}
_NEVER_NONE = {"model", "max_tokens", "temperature", "top_p", "signals"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        model: which model.
        generation: keyword arguments of `LVLM.generate`.
        policy: what decides on the answer; None gives out whatever is written.
        timeout: seconds; None is no limit.
        tools: that the prompt tells of; the model may call them.
        forced: of which one has to be called.
    """

    model: str
    generation: dict[str, Any]
    policy: GuardPolicy | None
    timeout: float | None
    tools: list[Tool] = field(default_factory=list)
    forced: list[Tool] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether tokens are given out as they are written: not where a policy decides or a call may be in them."""
        return self.policy is None and not self.tools and not self.forced


class ServedLVLM(BaseModel):
    """Settings of a model that is loaded when it is first used, once per process and configuration.

    Attributes:
        model: ``"embedded"`` (no network), a local folder, or a hub id.
        lvlm: a loaded model to use instead.
        device: where to put it; None is a GPU if there is one.
        dtype: a torch dtype's name, or ``"auto"``.
        revision: of a hub model.
        model_kwargs: for transformers' ``from_pretrained``.
        require_image: refuse messages without an image.
        max_tokens: the most tokens of an answer (alias ``max_new_tokens``).
        temperature: 0 is greedy.
        top_p: nucleus to sample from.
        seed: of the random numbers; None draws one.
        stop: strings at which an answer ends (alias ``stop_sequences``).
        sgrs: saliency-guided rejection. None (off) is the default: on the models that were measured here it does harm
            as published (docs/evidence.md).
        locore: local reinforcement of recent output; None (off) is the default.
        saliency: how tokens are scored; None scores nothing.
        signals: names of detection signals for every token.
        policy: what to do with a badly grounded answer. Streams are then held back until the policy has decided.
        timeout: seconds for one call.
        fetch_image: gets the bytes behind an http(s) URL; None refuses such images.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    model: str = Field(default=EMBEDDED, validation_alias=AliasChoices("model", "model_name"))
    lvlm: LVLM | None = Field(default=None, exclude=True)
    device: str | None = None
    dtype: str = "auto"
    revision: str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    require_image: bool = False
    max_tokens: int = Field(default=128, validation_alias=AliasChoices("max_tokens", "max_new_tokens"))
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    sgrs: SGRSConfig | None = None
    locore: LocoREConfig | None = None
    saliency: SaliencyConfig | None = SaliencyConfig()
    signals: tuple[str, ...] = ()
    policy: GuardPolicy | None = None
    timeout: float | None = Field(default=None, gt=0)
    fetch_image: Callable[[str], bytes] | None = Field(default=None, exclude=True)

    @property
    def call_settings(self) -> dict[str, Any]:
        """What a call may set otherwise."""
        return {name: getattr(self, name) for name in _OF_A_CALL}

    @property
    def served_name(self) -> str:
        """What the model is called; known without loading it."""
        return self.lvlm.model_id if self.lvlm is not None else self.model

    def engine(self, model: str | None = None) -> LVLM:
        """The loaded model; the process has one of each configuration.

        Args:
            model: another one than its own.
        """
        if self.lvlm is not None and model in (None, self.model):
            return self.lvlm
        return shared_lvlm(
            model or self.model,
            device=self.device,
            dtype=self.dtype,
            revision=self.revision,
            require_image=self.require_image,
            **self.model_kwargs,
        )

    def request(
        self,
        given: Mapping[str, Any],
        *,
        stop: str | Sequence[str] | None = None,
        tools: Sequence[Tool] = (),
        forced: Sequence[Tool] = (),
        json_schema: Mapping[str, Any] | None = None,
    ) -> Request:
        """What one call asks for.

        Args:
            given: settings for this call alone.
            stop: beside the settings' own.
            tools: that the model may call.
            forced: tools of which it has to call one.
            json_schema: of the answer, where no tool is forced.

        Raises:
            ConfigError: for a setting that nothing is known of.
        """
        given = {_OTHER_NAMES.get(name, name): value for name, value in given.items()}
        given = {name: value for name, value in given.items() if value is not None or name not in _NEVER_NONE}
        unknown = set(given) - set(_OF_A_CALL)
        if unknown:
            msg = f"unknown argument {min(unknown)!r}: a call takes {', '.join(sorted(_OF_A_CALL))}, tools, json_schema"
            raise ConfigError(msg)
        settings = {**self.call_settings, **given}
        generation = {name: settings[name] for name in _OF_GENERATE}
        generation["max_new_tokens"] = settings["max_tokens"]
        generation["stop"] = tuple(dict.fromkeys([*_several(settings["stop"]), *_several(stop)]))
        schema = call_schema(forced) if forced else json_schema
        if schema is not None:
            generation["json_schema"] = schema
        return Request(
            model=settings["model"],
            generation=generation,
            policy=settings["policy"],
            timeout=settings["timeout"],
            tools=[] if forced else list(tools),
            forced=list(forced),
        )


def _several(stop: str | Sequence[str] | None) -> Sequence[str]:
    return (stop,) if isinstance(stop, str) else stop or ()


Scorer = ServedLVLM | LVLM | str


class Judge:
    """Scores answers of any model with a local one, with all that a policy looks at.

    Args:
        scorer: settings of a model, a loaded `LVLM`, or the name of a model.
    """

    def __init__(self, scorer: Scorer = EMBEDDED) -> None:
        self._scorer = ServedLVLM(model=scorer) if isinstance(scorer, str) else scorer

    @property
    def lvlm(self) -> LVLM:
        """The loaded model."""
        return self._scorer if isinstance(self._scorer, LVLM) else self._scorer.engine()

    @property
    def fetch_image(self) -> Callable[[str], bytes] | None:
        """Gets the bytes behind a URL."""
        return None if isinstance(self._scorer, LVLM) else self._scorer.fetch_image

    def score(self, messages: Sequence[Mapping[str, Any]], text: str, policy: GuardPolicy) -> GroundedAnswer:
        """What a text rests on.

        Args:
            messages: what it answers, as for `LVLM.score`.
            text: the answer.
            policy: whose calibrator and rules decide what is looked at.
        """
        return self._for(policy).score(messages, text, signals=policy.signals)

    def write(
        self, messages: Sequence[Mapping[str, Any]], policy: GuardPolicy, *, max_new_tokens: int
    ) -> GroundedAnswer:
        """An answer of the model's own, plainly written."""
        return self._for(policy).generate(
            messages, max_new_tokens=max_new_tokens, sgrs=None, locore=None, signals=policy.signals
        )

    def _for(self, policy: GuardPolicy) -> LVLM:
        scorer = self.lvlm if policy.calibrator is None else self.lvlm.with_calibrator(policy.calibrator)
        policy.require_calibrator(scorer)
        return scorer
