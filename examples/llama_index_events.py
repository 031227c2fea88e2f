"""An event handler that logs the grounding of every answer, wherever in LlamaIndex it was generated.

Run with ``python examples/llama_index_events.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation import get_dispatcher

from llama_index.llms.saliency_guard import (
    GroundingRejectionEvent,
    GroundingRetryEvent,
    GroundingScoreEvent,
    SaliencyGuardedLVLM,
)
from saliency_guard import GuardPolicy, SGRSConfig

DESK = Path(__file__).parent / "desk.png"


class GroundingLog(BaseEventHandler):
    """Prints a line for every score, retry and rejection."""

    @classmethod
    def class_name(cls) -> str:
        """Name of the handler."""
        return "GroundingLog"

    def handle(self, event: Any, **_: Any) -> None:
        """Called with every event of LlamaIndex."""
        if isinstance(event, GroundingScoreEvent):
            print(f"score     {event.report['score']:.3f}, decision {event.report['decision']}")
        elif isinstance(event, GroundingRetryEvent):
            print(f"retry     attempt {event.attempt} {event.verdict}: {event.reason}")
        elif isinstance(event, GroundingRejectionEvent):
            print(f"rejection {event.text!r} ({event.saliency:.4f} < {event.threshold:.4f}), took {event.taken!r}")


def main() -> None:
    """A plain answer, one with a policy that refuses every answer, and one with rejected candidates."""
    root, log = get_dispatcher(), GroundingLog()
    root.add_event_handler(log)
    llm = SaliencyGuardedLVLM(seed=0)
    messages = [
        ChatMessage(role="user", blocks=[ImageBlock(path=DESK), TextBlock(text="Is there a laptop in the image?")])
    ]
    llm.chat(messages)
    llm.chat(messages, policy=GuardPolicy(min_grounding=1.0, max_retries=1))
    describe = ChatMessage(role="user", blocks=[ImageBlock(path=DESK), TextBlock(text="Describe the image in detail.")])
    llm.chat([describe], sgrs=SGRSConfig(alpha=0.9, min_p=0.5))
    root.event_handlers.remove(log)


if __name__ == "__main__":
    main()
