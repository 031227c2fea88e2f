"""Guards the answers of another chat model: a local model scores them, and badly grounded answers are replaced.

The other model is a fake with fixed answers; put any chat model in its place, local or remote.
Run with ``python examples/langchain_guard.py``.
"""

from __future__ import annotations

from pathlib import Path

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage

from langchain_saliency_guard import GroundingGuard, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy, LowGroundingError

PICTURE = Path(__file__).parent / "pictures" / "dog.png"
ANSWERS = ("The image shows a dog.", "The image shows a zebra and a bus.")


def main() -> None:
    """Check two answers, one of them wrong."""
    remote = GenericFakeChatModel(messages=iter(AIMessage(text) for text in ANSWERS))
    guard = GroundingGuard(GuardPolicy(min_grounding=0.5, on_low="raise"))
    chain = guard.around(remote).with_fallbacks([SaliencyGuardedLVLM()], exceptions_to_handle=(LowGroundingError,))
    question = HumanMessage([{"type": "image", "path": str(PICTURE)}, {"type": "text", "text": "What do you see?"}])
    for remote_text in ANSWERS:
        answer = chain.invoke([question])
        report = answer.response_metadata["grounding"]
        print(f"remote model: {remote_text!r}")
        print(f"final answer: {answer.text!r} (grounding {report['score']:.3f}, {report['decision'] or 'fallback'})")


if __name__ == "__main__":
    main()
