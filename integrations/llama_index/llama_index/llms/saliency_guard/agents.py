"""GroundedAgentMixin: agents whose answers about pictures are retried, replaced or flagged when badly grounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.agent.workflow.agent_context import AgentContext
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.agent.workflow.workflow_events import AgentOutput, AgentStream
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.memory import BaseMemory
from llama_index.core.tools import AsyncBaseTool
from llama_index.core.workflow import Context
from pydantic import Field

from llama_index.llms.saliency_guard._collecting import attempting, collect_grounding
from llama_index.llms.saliency_guard._evidence import judge_of
from llama_index.llms.saliency_guard._messages import has_picture, to_core
from llama_index.llms.saliency_guard._responses import tell_retry
from llama_index.llms.saliency_guard.base import SaliencyGuardedLVLM
from llama_index.llms.saliency_guard.events import GroundingScoreEvent, dispatcher
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters.run import answer_report
from saliency_guard.adapters.settings import Judge
from saliency_guard.guard.outcome import EMPTY_ANSWER
from saliency_guard.guard.policy import PlannedAttempts
from saliency_guard.guard.retry import PlannedAttempt

_ANSWER = "Answer:"


class _Draft:
    """A step that may be thrown away: what it stores and streams is kept back until it is committed.

    Args:
        context: of the step.
    """

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._values: dict[str, Any] = {}
        self._streamed: list[AgentStream] = []

    @property
    def store(self) -> Any:
        return self

    @property
    def is_running(self) -> bool:
        # Inside of a step a workflow is always running, and is not to be asked.
        return isinstance(self._context, Context) or self._context.is_running

    async def get(self, path: str, default: Any = None) -> Any:
        if path in self._values:
            return self._values[path]
        found = await self._context.store.get(path, default=default)
        # Agents add to the list they get: the draft must not reach the list behind it.
        return list(found) if isinstance(found, list) else found

    async def set(self, path: str, value: Any) -> None:
        self._values[path] = value

    def write_event_to_stream(self, event: Any) -> None:
        if isinstance(event, AgentStream):
            self._streamed.append(event)
        else:
            self._context.write_event_to_stream(event)

    async def commit(self, replaced: AgentStream | None = None) -> None:
        """Let it have happened.

        Args:
            replaced: what is streamed instead of the model's own words.
        """
        for path, value in self._values.items():
            await self._context.store.set(path, value)
        for event in self._streamed if replaced is None else [replaced]:
            self._context.write_event_to_stream(event)


@dataclass(frozen=True, slots=True)
class _Step:
    """One attempt at a step."""

    draft: _Draft
    output: AgentOutput


class GroundedAgentMixin(BaseWorkflowAgent):
    """Guards the answers of a `FunctionAgent` or a `ReActAgent`, of any LLM.

    Mix it in before the agent::

        class GroundedFunctionAgent(GroundedAgentMixin, FunctionAgent): ...

    Every answer to a chat with a picture (not calls of tools) is scored. One that is refused leaves nothing behind, and
    is drawn anew as often as the policy says (a `SaliencyGuardedLVLM` with another seed), then asked of
    ``fallback_llm``, and then replaced by the policy's own fallback, flagged, or raised. ``AgentOutput.raw`` has the
    report under ``"grounding"``. Only what is given out is streamed.

    Attributes:
        policy: decides.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model; None is the agent's own LLM
            where that is a `SaliencyGuardedLVLM`, else the embedded model.
        fallback_llm: asked when no answer is good enough; it is given the same tools.
    """

    policy: GuardPolicy = Field(description="Decides on answers.")
    scorer: Any = Field(default=None, description="Scores answers.", exclude=True)
    fallback_llm: LLM | None = Field(default=None, description="Asked when no answer is good enough.")

    async def take_step(
        self, ctx: AgentContext, llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool], memory: BaseMemory
    ) -> AgentOutput:
        """One step of the agent, its answer guarded.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
        """
        judge = self._judge()
        asked: list[dict[str, Any]] | None = None
        plan: PlannedAttempts | None = None
        steps: list[_Step] = []
        planned = PlannedAttempt(0)
        while True:
            await asyncio.sleep(planned.wait)
            step = await self._attempt(planned, ctx, llm_input, tools, memory)
            text = self._said(step.output)
            if asked is None:
                messages = [*llm_input, *await self._since(ctx)]
                if has_picture(messages):
                    asked = await asyncio.to_thread(to_core, messages, fetch_image=judge.fetch_image)
                    plan = self._plan(asked)
            if asked is None or plan is None or text is None:
                await step.draft.commit()
                return step.output
            came: GroundedAnswer | Attempt = EMPTY_ANSWER
            if text:
                came = await asyncio.to_thread(judge.score, asked, text, self.policy)
            steps.append(step)
            try:
                planned = plan.send(came)
            except StopIteration as end:
                return await self._decided(end.value, steps)
            tell_retry(len(steps) - 1, self.policy, came)

    def _judge(self) -> Judge:
        own = self.llm if isinstance(self.llm, SaliencyGuardedLVLM) else None
        return judge_of(self.scorer if self.scorer is not None else own)

    def _plan(self, asked: list[dict[str, Any]]) -> PlannedAttempts:
        plan = self.policy.planned_attempts(
            asked,
            temperature=getattr(self.llm, "temperature", None),
            seed=getattr(self.llm, "seed", None),
            sgrs=getattr(self.llm, "sgrs", None),
            locore=getattr(self.llm, "locore", None),
            has_fallback=self.fallback_llm is not None,
        )
        next(plan)
        return plan

    async def _attempt(
        self,
        planned: PlannedAttempt,
        ctx: AgentContext,
        llm_input: list[ChatMessage],
        tools: Sequence[AsyncBaseTool],
        memory: BaseMemory,
    ) -> _Step:
        draft = _Draft(ctx)
        agent: GroundedAgentMixin = self
        if planned.is_fallback:
            agent = self.model_copy(update={"llm": self.fallback_llm})
        if planned.request and not isinstance(self.llm, SaliencyGuardedLVLM):  # Ours adds it where the call is made.
            llm_input = [*llm_input, ChatMessage(planned.request, role=MessageRole.USER)]
        with collect_grounding(), attempting(planned):
            output = await super(GroundedAgentMixin, agent).take_step(  # type: ignore[safe-super]
                draft, llm_input, tools, memory
            )
        return _Step(draft, output)

    async def _since(self, ctx: AgentContext) -> list[ChatMessage]:
        """What a `FunctionAgent` keeps of the run so far: calls of tools, and their results with pictures."""
        key = getattr(self, "scratchpad_key", None)
        return [] if key is None else list(await ctx.store.get(key, default=[]))

    def _said(self, output: AgentOutput) -> str | None:
        """The answer in an output; None where it is none."""
        if output.tool_calls or output.retry_messages:
            return None
        said = output.response.content or ""
        return (said.partition(_ANSWER)[2] if isinstance(self, ReActAgent) and _ANSWER in said else said).strip()

    async def _decided(self, outcome: GuardOutcome, steps: list[_Step]) -> AgentOutput:
        step = steps[outcome.chosen if outcome.chosen is not None else -1]
        report = answer_report(outcome.answer, outcome)
        raw = step.output.raw if isinstance(step.output.raw, Mapping) else {"response": step.output.raw}
        step.output.raw = {**raw, "grounding": report}
        replaced = None
        if outcome.chosen is None:
            await self._say(outcome.text, step)
            replaced = AgentStream(
                delta=outcome.text, response=outcome.text, current_agent_name=self.name, raw=step.output.raw
            )
        dispatcher.event(GroundingScoreEvent(report=report))
        await step.draft.commit(replaced)
        return step.output

    async def _say(self, text: str, step: _Step) -> None:
        """Put a text in the place of an answer, in all that the agent keeps of it."""
        if isinstance(self, ReActAgent):
            reasoning = await step.draft.get(self.reasoning_key, default=[])
            last = reasoning[-1].model_copy(update={"response": text})
            await step.draft.set(self.reasoning_key, [*reasoning[:-1], last])
        said = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=text)])
        key = getattr(self, "scratchpad_key", None)
        if key is not None:
            kept = await step.draft.get(key, default=[])
            await step.draft.set(key, [*kept[:-1], said])
        step.output.response = said
