"""GroundedAgentMixin: agents whose answers about pictures are retried, replaced or flagged when badly grounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from llama_index.llms.saliency_guard._evidence import scorer_of
from llama_index.llms.saliency_guard._messages import has_picture, to_core
from llama_index.llms.saliency_guard._responses import send_retry
from llama_index.llms.saliency_guard.base import SaliencyGuardedLVLM
from llama_index.llms.saliency_guard.events import GroundingScoreEvent, dispatcher
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters import (
    EMPTY_ANSWER,
    LocalScorer,
    PlannedAttempt,
    PlannedAttempts,
    PromptMemo,
    answer_report,
    remember_prompts,
)

_ANSWER = "Answer:"


class _Draft:
    """A step that may be discarded: what it stores and streams is held back until it is committed.

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
        # Inside of a step a workflow is always running, and its own property must not be read.
        return isinstance(self._context, Context) or self._context.is_running

    async def get(self, path: str, default: Any = None) -> Any:
        if path in self._values:
            return self._values[path]
        stored = await self._context.store.get(path, default=default)
        # Agents append to the list they get: the stored list must not change.
        return list(stored) if isinstance(stored, list) else stored

    async def set(self, path: str, value: Any) -> None:
        self._values[path] = value

    def write_event_to_stream(self, event: Any) -> None:
        if isinstance(event, AgentStream):
            self._streamed.append(event)
        else:
            self._context.write_event_to_stream(event)

    async def commit(self, replaced: AgentStream | None = None) -> None:
        """Store and stream what was held back.

        Args:
            replaced: streamed instead of the model's words.
        """
        for path, value in self._values.items():
            await self._context.store.set(path, value)
        for event in self._streamed if replaced is None else [replaced]:
            self._context.write_event_to_stream(event)


@dataclass(frozen=True, slots=True)
class _Step:
    """An attempt at a step."""

    draft: _Draft
    output: AgentOutput


class GroundedAgentMixin(BaseWorkflowAgent):
    """Guards the answers of a `FunctionAgent` or a `ReActAgent`, of any LLM.

    Mix it in before the agent::

        class GroundedFunctionAgent(GroundedAgentMixin, FunctionAgent): ...

    Every answer to a chat with a picture (not tool calls) is scored. A refused answer leaves nothing behind, and is
    written again as often as the policy says (by a `SaliencyGuardedLVLM` with another seed), then by
    ``fallback_llm``, and then replaced by the policy's fallback, flagged, or raised. ``AgentOutput.raw`` has the
    report under ``"grounding"``. Only what is given out is streamed.

    Attributes:
        policy: decides.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model; None is the agent's own LLM
            where that is a `SaliencyGuardedLVLM`, else the embedded model.
        fallback_llm: called when no answer is good enough; it is given the same tools.
    """

    policy: GuardPolicy = Field(description="Decides on answers.")
    scorer: Any = Field(default=None, description="Scores answers.", exclude=True)
    fallback_llm: LLM | None = Field(default=None, description="Called when no answer is good enough.")

    async def take_step(
        self, ctx: AgentContext, llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool], memory: BaseMemory
    ) -> AgentOutput:
        """One step of the agent, its answer guarded.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
        """
        with remember_prompts() as prompts:
            return await self._guarded_step(prompts, ctx, llm_input, tools, memory)

    async def _guarded_step(
        self,
        prompts: PromptMemo,
        ctx: AgentContext,
        llm_input: list[ChatMessage],
        tools: Sequence[AsyncBaseTool],
        memory: BaseMemory,
    ) -> AgentOutput:
        scorer = self._local_scorer()
        messages: list[dict[str, Any]] | None = None
        plan: PlannedAttempts | None = None
        steps: list[_Step] = []
        planned = PlannedAttempt(0)
        while True:
            await asyncio.sleep(planned.wait)
            step = await self._attempt(planned, ctx, llm_input, tools, memory)
            text = self._answer_text(step.output)
            if messages is None:
                chat = [*llm_input, *await self._since(ctx)]
                if has_picture(chat):
                    convert = partial(to_core, fetch_image=scorer.fetch_image)
                    messages = await asyncio.to_thread(prompts.messages, chat, convert)
                    plan = self._plan(messages)
            if messages is None or plan is None or text is None:
                await step.draft.commit()
                return step.output
            result: GroundedAnswer | Attempt = EMPTY_ANSWER
            if text:
                lvlm = await asyncio.to_thread(lambda: scorer.lvlm)
                prompt = await asyncio.to_thread(prompts.prompt, lvlm, messages)
                result = await scorer.ascore(prompt, text, self.policy)
            steps.append(step)
            try:
                planned = plan.send(result)
            except StopIteration as end:
                return await self._decided(end.value, steps)
            send_retry(len(steps) - 1, self.policy, result)

    def _local_scorer(self) -> LocalScorer:
        llm = self.llm if isinstance(self.llm, SaliencyGuardedLVLM) else None
        return scorer_of(self.scorer if self.scorer is not None else llm)

    def _plan(self, messages: list[dict[str, Any]]) -> PlannedAttempts:
        plan = self.policy.planned_attempts(
            messages,
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
        if planned.request and not isinstance(self.llm, SaliencyGuardedLVLM):  # Ours adds it itself.
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

    def _answer_text(self, output: AgentOutput) -> str | None:
        """The answer in an output; None where it is a tool call."""
        if output.tool_calls or output.retry_messages:
            return None
        text = output.response.content or ""
        return (text.partition(_ANSWER)[2] if isinstance(self, ReActAgent) and _ANSWER in text else text).strip()

    async def _decided(self, outcome: GuardOutcome, steps: list[_Step]) -> AgentOutput:
        step = steps[outcome.chosen if outcome.chosen is not None else -1]
        report = answer_report(outcome.answer, outcome)
        raw = step.output.raw if isinstance(step.output.raw, Mapping) else {"response": step.output.raw}
        step.output.raw = {**raw, "grounding": report}
        replaced = None
        if outcome.chosen is None:
            await self._replace_answer(outcome.text, step)
            replaced = AgentStream(
                delta=outcome.text, response=outcome.text, current_agent_name=self.name, raw=step.output.raw
            )
        dispatcher.event(GroundingScoreEvent(report=report))
        await step.draft.commit(replaced)
        return step.output

    async def _replace_answer(self, text: str, step: _Step) -> None:
        """Put a text in the place of an answer, wherever the agent keeps it."""
        if isinstance(self, ReActAgent):
            reasoning = await step.draft.get(self.reasoning_key, default=[])
            last = reasoning[-1].model_copy(update={"response": text})
            await step.draft.set(self.reasoning_key, [*reasoning[:-1], last])
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=text)])
        key = getattr(self, "scratchpad_key", None)
        if key is not None:
            kept = await step.draft.get(key, default=[])
            await step.draft.set(key, [*kept[:-1], message])
        step.output.response = message
