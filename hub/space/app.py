"""A demo to try saliency-guard in a browser: upload a picture, ask, and see which claims of the answer hold.

``python app.py`` starts it (needs ``pip install gradio``). `ask` is all it does, without a browser.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from PIL import Image

from saliency_guard import LVLM, GroundedAnswer, SaliencyGuardError

MODEL = "embedded"
HEADER = ["claim", "kind", "grounding", "the model, asked alone"]
EXAMPLE = "Describe the image in detail."


@cache
def lvlm() -> LVLM:
    """The model, loaded once."""
    return LVLM.load(MODEL)


def ask(picture: Image.Image | None, question: str, answer: str = "") -> tuple[str, str, list[list[str]]]:
    """Answer a question about a picture, or judge an answer that is given.

    Args:
        picture: what is asked about.
        question: what is asked.
        answer: from somewhere else; empty lets the model answer.

    Returns:
        The answer, what is known of it in one sentence, and a row for each claim (see `HEADER`).
    """
    if picture is None:
        return "", "Upload a picture first.", []
    text = {"type": "text", "text": question.strip() or EXAMPLE}
    messages = [{"role": "user", "content": [{"type": "image", "image": picture.convert("RGB")}, text]}]
    try:
        answered = lvlm().score(messages, answer) if answer.strip() else lvlm().generate(messages, timeout=60.0)
    except SaliencyGuardError as error:
        return "", str(error), []
    return answered.text, verdict(answered), [_row(claim) for claim in answered.claims]


def verdict(answer: GroundedAnswer) -> str:
    """What is known of an answer."""
    if answer.grounding is None:
        return f"No number: {answer.grounding_reason}."
    return f"All of it is true with probability {answer.grounding:.2f}."


def _row(claim: Any) -> list[str]:
    numbers = ("" if value is None else f"{value:.2f}" for value in (claim.grounding, claim.verified))
    return [claim.text, claim.kind, *numbers]


def demo() -> Any:
    """The page.

    Raises:
        SaliencyGuardError: if gradio is not installed.
    """
    if find_spec("gradio") is None:
        msg = "the demo needs gradio: pip install gradio"
        raise SaliencyGuardError(msg)
    import gradio  # noqa: PLC0415 - optional

    return gradio.Interface(
        ask,
        inputs=[
            gradio.Image(type="pil", label="Picture"),
            gradio.Textbox(value=EXAMPLE, label="Question"),
            gradio.Textbox(label="An answer to judge (empty: the model answers)"),
        ],
        outputs=[
            gradio.Textbox(label="Answer"),
            gradio.Textbox(label="What is known of it"),
            gradio.Dataframe(headers=HEADER, label="Claims"),
        ],
        title="saliency-guard",
        description=(
            "The embedded model knows drawn scenes. Of a photograph it makes things up, and its answers about one have "
            "no number but a reason."
        ),
        flagging_mode="never",
    )


if __name__ == "__main__":
    demo().launch()
