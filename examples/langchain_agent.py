"""An agent whose answers about pictures are guarded: drawn anew, then asked of a fallback model, then flagged.

The agent's model is a stand-in that is wrong twice, as a model is that does not look; put yours in its place.
Run with ``python examples/langchain_agent.py`` (needs ``langchain-saliency-guard[agents]``).
"""

from __future__ import annotations

from pathlib import Path

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage

from langchain_saliency_guard import GroundingMiddleware, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

PICTURE = Path(__file__).parent / "pictures" / "umbrella.png"


def main() -> None:
    """Ask the agent once."""
    model = GenericFakeChatModel(
        messages=iter([AIMessage("The image shows a cat."), AIMessage("The image shows a cat and a sofa.")])
    )
    guard = GroundingMiddleware(GuardPolicy(min_grounding=0.5, max_retries=1), fallback_model=SaliencyGuardedLVLM())
    agent = create_agent(model, tools=[], middleware=[guard])
    question = HumanMessage([{"type": "image", "path": str(PICTURE)}, {"type": "text", "text": "What do you see?"}])
    state = agent.invoke({"messages": [question]})
    (report,) = state["grounding"]
    for attempt in report["attempts"]:
        refused = f"refused: {attempt['refused']}" if attempt["refused"] else "good"
        print(f"{attempt['text']!r} ({refused})")
    print(f"answer: {state['messages'][-1].text!r} ({report['decision']})")


if __name__ == "__main__":
    main()
