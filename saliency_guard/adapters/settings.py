"""A model as chains and agents hold it: its settings, and what one call asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from saliency_guard.adapters.report import ReportDetail
from saliency_guard.adapters.shared_models import shared_lvlm
from saliency_guard.calibration.sharing import CalibratorIn
from saliency_guard.chat.fetch import Fetch
from saliency_guard.chat.role_markers import RoleMarkersIn
from saliency_guard.chat.tools import Tool, call_schema, checked_tools
from saliency_guard.decoding.options import DEFAULTS, LARGEST_SEED, generation_plan
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.decoding.stop_strings import stop_strings
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError, shown
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.settings import Seconds, refused, require

_ALIASES = {"max_tokens": "max_new_tokens", "model_name": "model", "stop_sequences": "stop"}
"""Names that LangChain, LlamaIndex and OpenAI use for an option."""

_OF_A_CALL = ("model", "policy", *(name for name in DEFAULTS if name != "json_schema"))
_NEVER_NONE = {"model", "max_new_tokens", "temperature", "top_p", "repetition_penalty", "signals"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        model: name of the model.
        generation: see `GenerationOptions`.
        policy: decides on the answer; None gives out whatever is written.
        tools: tools that the prompt tells of; the model may call them.
        forced: tools of which one has to be called.
    """

    model: str
    generation: dict[str, Any]
    policy: GuardPolicy | None
    tools: list[Tool] = field(default_factory=list)
    forced: list[Tool] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether tokens are given out as they are written: not where a policy decides or a call may be in them."""
        return self.policy is None and not self.tools and not self.forced


class ServedLVLM(BaseModel):
    """Settings of a model that is loaded when it is first used, once per process and configuration.

    Options of generation have the names and defaults of `GenerationOptions`; a call may set each of them otherwise. A
    wrong or misspelt setting raises `ConfigError`.

    Attributes:
        model: ``"embedded"`` (no network), a local folder, or a hub id (alias ``model_name``).
        lvlm: a loaded model to use instead, with the calibrator that it has.
        device: where to put it; None is a GPU if there is one.
        dtype: a torch dtype's name, or ``"auto"``.
        revision: of a hub model.
        calibrator: judges the answers, as for `LVLM.load`; None takes the model's own.
        model_kwargs: for transformers' ``from_pretrained``.
        require_image: refuse messages without an image.
        role_markers: what to do where a message holds a header of the chat template in plain text; as for `LVLM`.
        max_new_tokens: the most tokens of an answer (alias ``max_tokens``).
        temperature: 0 is greedy.
        top_p: nucleus to sample from.
        top_k: how many tokens to sample from; None is all.
        repetition_penalty: of tokens that stand in the prompt or the answer already; 1.0 is none.
        seed: of the random numbers; None draws one.
        stop: strings at which an answer ends (alias ``stop_sequences``).
        sgrs: saliency-guided rejection. None (off) is the default: on the models that were measured here it does harm
            as published (docs/evidence.md).
        locore: local coherence reinforcement; None (off) is the default.
        saliency: how tokens are scored; None scores nothing.
        signals: names of detection signals for every token.
        policy: what to do with a badly grounded answer. Streams are then held back until the policy has decided.
        timeout: seconds for one call, all attempts of a policy together.
        report: how much the report of an answer holds: ``"summary"``, ``"tokens"`` (every token with its sources, too)
            or ``"full"`` (the texts of refused attempts, too).
        fetch_image: gets the bytes behind an http(s) URL, such as a `URLFetcher`; None refuses such images.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    model: str = Field(default=EMBEDDED, validation_alias=AliasChoices("model", "model_name"))
    lvlm: LVLM | None = Field(default=None, exclude=True)
    device: str | None = None
    dtype: str = "auto"
    revision: str | None = None
    calibrator: CalibratorIn | None = Field(default=None, exclude=True)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    require_image: bool = False
    role_markers: RoleMarkersIn = "keep"
    max_new_tokens: int = Field(default=128, ge=1, validation_alias=AliasChoices("max_new_tokens", "max_tokens"))
    temperature: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    repetition_penalty: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    seed: int | None = Field(default=None, gt=-LARGEST_SEED, lt=LARGEST_SEED)
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    sgrs: SGRSConfig | None = None
    locore: LocoREConfig | None = None
    saliency: SaliencyConfig | None = SaliencyConfig()
    signals: tuple[str, ...] = ()
    policy: GuardPolicy | None = None
    timeout: Seconds | None = None
    report: ReportDetail = "summary"
    fetch_image: Fetch | None = Field(default=None, exclude=True)

    if not TYPE_CHECKING:  # Its signature stays the one of the fields.

        def __init__(self, *args: Any, **values: Any) -> None:
            try:
                super().__init__(*args, **values)
            except ValidationError as error:
                raise refused(type(self).__name__, error) from error
            except TypeError as error:  # Settings in settings, of keys that are no names.
                msg = f"{type(self).__name__}: {error}"
                raise ConfigError(msg) from error

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stop_strings(stop)
        return stop

    @model_validator(mode="after")
    def _check_calibrator(self) -> Self:
        if self.lvlm is not None and self.calibrator is not None:
            msg = "a loaded model brings its calibrator: give lvlm=lvlm.with_calibrator(...), and no calibrator"
            raise ValueError(msg)
        return self

    @property
    def call_settings(self) -> dict[str, Any]:
        """The settings that a call may replace."""
        return {name: getattr(self, name) for name in _OF_A_CALL if name in ServedLVLM.model_fields}

    @property
    def served_name(self) -> str:
        """What the model is called; known without loading it."""
        return self.lvlm.model_id if self.lvlm is not None else self.model

    def engine(self, model: str | None = None) -> LVLM:
        """The loaded model; the process has one of each configuration.

        Args:
            model: name of another model to load with these settings.
        """
        if self.lvlm is not None and model in (None, self.model):
            return self.lvlm
        # Left out where it is the default, so that the model is shared with callers that do not set it.
        markers = {} if self.role_markers == "keep" else {"role_markers": self.role_markers}
        # It was fitted for one model: another one has its own.
        judge = {} if self.calibrator is None or model not in (None, self.model) else {"calibrator": self.calibrator}
        return shared_lvlm(
            model or self.model,
            device=self.device,
            dtype=self.dtype,
            revision=self.revision,
            require_image=self.require_image,
            **{**markers, **judge, **self.model_kwargs},
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
            given: options for this call alone: those of `GenerationOptions`, ``model`` and ``policy``.
            stop: strings that end the answer, beside the settings' own.
            tools: tools that the model may call.
            forced: tools of which it has to call one.
            json_schema: of the answer, where no tool is forced.

        Raises:
            ConfigError: for an option that does not exist, is of the wrong kind or out of range.
        """
        given = {_ALIASES.get(name, name): value for name, value in given.items()}
        given = {name: value for name, value in given.items() if value is not None or name not in _NEVER_NONE}
        unknown = set(given) - set(_OF_A_CALL)
        if unknown:
            msg = f"unknown argument {min(unknown)!r}: a call takes {', '.join(sorted(_OF_A_CALL))}, tools, json_schema"
            raise ConfigError(msg)
        settings = {**self.call_settings, **given}
        _check(settings)
        generation = {name: value for name, value in settings.items() if name in DEFAULTS}
        both = dict.fromkeys([*stop_strings(settings["stop"]), *stop_strings(stop)])
        generation["stop"] = stop_strings(tuple(both))
        generation_plan(generation)  # Refuses what is wrong before a model is loaded.
        forced = checked_tools(forced)
        schema = call_schema(forced) if forced else json_schema
        if schema is not None:
            generation["json_schema"] = schema
        return Request(
            model=settings["model"],
            generation=generation,
            policy=settings["policy"],
            tools=[] if forced else list(checked_tools(tools)),
            forced=list(forced),
        )


def _check(settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for what a call would find only after its model is loaded."""
    if not isinstance(settings["model"], str):
        msg = f"model must be a model's name, not {shown(settings['model'])}"
        raise ConfigError(msg)
    require(GuardPolicy, settings["policy"])
