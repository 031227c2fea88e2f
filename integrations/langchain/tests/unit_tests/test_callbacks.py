"""Events of grounding reach handlers, with the run of the model that they are about."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from message_checks import Heard

from langchain_saliency_guard import AsyncGroundingCallbackHandler, SaliencyGuardedLVLM
from saliency_guard import (
    SGRSConfig,
)


async def test_events_reach_handlers_on_every_way(ask: Any) -> None:
    model = SaliencyGuardedLVLM(sgrs=SGRSConfig())

    class Plain(BaseCallbackHandler):
        def __init__(self) -> None:
            self.names: list[str] = []

        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            self.names.append(name)

    class Later(AsyncGroundingCallbackHandler):
        def __init__(self) -> None:
            self.tokens = 0

        async def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
            self.tokens += 1

    heard = [Heard() for _ in range(5)]
    plain, later = Plain(), Later()
    model.invoke([ask()], config={"callbacks": [heard[0], plain]})
    list(model.stream([ask()], config={"callbacks": [heard[1]]}))
    await model.ainvoke([ask()], config={"callbacks": [heard[2], later]})
    [_ async for _ in model.astream([ask()], config={"callbacks": [heard[3]]})]
    [_ async for _ in model.astream_events([ask()], version="v2", config={"callbacks": [heard[4]]})]
    for handler in heard:
        assert handler.events == heard[0].events
        assert len(handler.runs) == 1
    assert len(heard[0].of("report")) == 1
    tokens = heard[0].of("token")
    assert len(heard[0].of("rejection")) == sum(len(token["rejected"]) for token in tokens) > 0
    assert later.tokens == len(tokens)
    assert plain.names[-1] == "grounding_report"
    assert plain.names.count("grounding_token") == len(tokens)


def test_events_of_a_chain_belong_to_the_model_s_run(model: SaliencyGuardedLVLM, ask: Any) -> None:
    heard = Heard()

    class Runs(BaseCallbackHandler):
        started: UUID | None = None

        def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
            self.started = run_id

    runs = Runs()
    chain = (lambda message: [message]) | model
    list(chain.stream(ask(), config={"callbacks": [heard, runs]}))
    assert heard.runs == {runs.started}
