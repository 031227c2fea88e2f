"""Streams an answer into the terminal, every token coloured by where it rests, and the calibrated grounding at last.

Run with ``python examples/langchain_stream.py [PICTURE [QUESTION]]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_core.messages import HumanMessage
from rich.console import Console
from rich.text import Text

from langchain_saliency_guard import SaliencyGuardedLVLM

PICTURE = Path(__file__).parent / "desk.png"


def main(picture: Path = PICTURE, question: str = "Describe the image in detail.") -> None:
    """Ask and show the tokens as they come."""
    console = Console()
    model = SaliencyGuardedLVLM()
    asked = HumanMessage([{"type": "image", "path": str(picture)}, {"type": "text", "text": question}])
    console.print("What rests on the picture is green, what rests on earlier words is red.\n")
    for chunk in model.stream([asked]):
        for token in chunk.additional_kwargs.get("grounding_tokens", []):
            seen, own = token["shares"]["image_0"], token["shares"]["output"]
            console.print(Text(token["text"], style="green" if seen > own else "red"), end="")
        report = chunk.response_metadata.get("grounding")
        if report:
            console.print(f"\n\nGrounded with probability {report['grounding']:.2f}")


if __name__ == "__main__":
    main(*(Path(sys.argv[1]), *sys.argv[2:]) if len(sys.argv) > 1 else ())
