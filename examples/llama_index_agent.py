"""An agent that falls back when its answer is not grounded in the picture.

Run with ``python examples/llama_index_agent.py``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from llama_index.llms.saliency_guard import GroundedAgentMixin, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

DESK = Path(__file__).parent / "desk.png"


class GroundedAgent(GroundedAgentMixin, FunctionAgent):
    """A function-calling agent whose answers are guarded."""


async def answer(agent: GroundedAgent, question: str) -> None:
    """Ask a question, and print the stream, which has only accepted answers."""
    blocks = [ImageBlock(path=DESK), TextBlock(text=question)]
    handler = agent.run(user_msg=ChatMessage(role="user", blocks=blocks))
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            print(event.delta, end="", flush=True)
    output = await handler
    report = output.raw["grounding"]
    print(f"  ({report['decision']} after {len(report['attempts'])} attempt(s))")


def main() -> None:
    """An answer that passes, and one with a policy that refuses every answer."""
    llm = SaliencyGuardedLVLM(is_function_calling_model=True, seed=0)
    lenient = GuardPolicy(min_grounding=0.5, max_retries=2)
    strict = GuardPolicy(
        min_grounding=1.0, max_retries=2, on_low="fallback", fallback=lambda *_: "I am not sure what is there."
    )
    for policy in (lenient, strict):
        asyncio.run(answer(GroundedAgent(llm=llm, tools=[], policy=policy), "Describe the image in detail."))


if __name__ == "__main__":
    main()
