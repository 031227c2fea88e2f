"""A workflow step that is retried while its answer is badly grounded, with a fallback at the end.

Run with ``python examples/llama_index_workflow.py``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from workflows import Workflow, catch_error, step
from workflows.events import StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_if_exception_type, retry_policy, stop_after_attempt, wait_fixed

from llama_index.llms.saliency_guard import SaliencyGuardedLVLM
from saliency_guard import GuardPolicy, LowGroundingError

DESK = Path(__file__).parent / "desk.png"
TRIES = retry_policy(retry=retry_if_exception_type(LowGroundingError), wait=wait_fixed(0), stop=stop_after_attempt(3))


class Describe(Workflow):
    """Describes a picture, or says that it cannot.

    Args:
        min_grounding: the lowest grounding that is accepted.
    """

    def __init__(self, min_grounding: float) -> None:
        super().__init__(timeout=600)
        policy = GuardPolicy(min_grounding=min_grounding, on_low="raise")
        self._llm = SaliencyGuardedLVLM(policy=policy, temperature=0.7)  # Greedy tries would all be the same.

    @step(retry_policy=TRIES)
    async def describe(self, ev: StartEvent) -> StopEvent:
        """Ask the model; a badly grounded answer raises an error, which is retried."""
        blocks = [ImageBlock(path=ev.picture), TextBlock(text="Describe the image in detail.")]
        response = await self._llm.achat([ChatMessage(role="user", blocks=blocks)])
        return StopEvent(result=str(response.message.content))

    @catch_error(for_steps=["describe"])
    async def give_up(self, ev: StepFailedEvent) -> StopEvent:
        """The result after all tries were refused."""
        return StopEvent(result=f"I cannot say for sure. ({ev.attempts} tries)")


async def run() -> None:
    """Run the workflow with a threshold that answers reach, and with one that none reaches."""
    for min_grounding in (0.2, 1.0):
        print(f"at least {min_grounding}: {await Describe(min_grounding).run(picture=DESK)}")


def main() -> None:
    """Run both workflows."""
    asyncio.run(run())


if __name__ == "__main__":
    main()
