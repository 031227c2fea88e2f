"""Streams an answer into the terminal, each token coloured by its source, with the calibrated grounding at the end.

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
    """Ask a question and show the tokens as they arrive."""
    console = Console()
    model = SaliencyGuardedLVLM(report="tokens")
    message = HumanMessage([{"type": "image", "path": str(picture)}, {"type": "text", "text": question}])
    console.print("Green tokens rest on the picture, red ones on earlier words of the answer.\n")
    for chunk in model.stream([message]):
        for token in chunk.additional_kwargs.get("grounding_tokens", []):
            shares = token["shares"]
            console.print(Text(token["text"], style="green" if shares["image_0"] > shares["output"] else "red"), end="")
        report = chunk.response_metadata.get("grounding")
        if report:
            console.print(f"\n\nGrounded with probability {report['score']:.2f}")


if __name__ == "__main__":
    main(*(Path(sys.argv[1]), *sys.argv[2:]) if len(sys.argv) > 1 else ())
