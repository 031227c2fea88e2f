"""RetrievalGuard: answers from documents that were looked up, judged and cited claim by claim."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from PIL import Image
from typing_extensions import TypedDict

from langchain_saliency_guard import Citation, CitedAnswer, RetrievalGuard, SaliencyGuardedLVLM
from saliency_guard import ConfigError, ContextLengthError, GuardPolicy, ImageError, LowGroundingError

PICTURES = Path(__file__).parents[4] / "examples" / "pictures"
POLICY = GuardPolicy(min_grounding=0.5)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
DESCRIBE = "Describe the image in detail."


def document(name: str, text: str = "", **metadata: Any) -> Document:
    return Document(text, id=name, metadata={"image": str(PICTURES / f"{name}.png"), **metadata})


def given(answer: Any = None, *documents: Document, question: str = DESCRIBE) -> dict[str, Any]:
    sources = list(documents) or [document("dog"), document("bird")]
    return {"question": question, "documents": sources, "answer": answer}


def report(cited: CitedAnswer) -> dict[str, Any]:
    grounding: dict[str, Any] = cited.message.response_metadata["grounding"]
    return grounding


@pytest.mark.parametrize(
    ("answer", "decision", "cited"),
    [
        ("The image shows a dog.", "accepted", {"dog": "dog"}),
        ("The images show a bird and a dog.", "accepted", {"bird": "bird", "dog": "dog"}),
        ("There is no zebra in the image.", "accepted", {}),
        ("There is no bird in the image.", "flagged", {}),
        ("The images show a bird, a dog and a zebra.", "flagged", {"bird": "bird", "dog": "dog"}),
        ("The image shows a zebra.", "flagged", {}),
        ("", "flagged", {}),
        (" \n", "flagged", {}),
    ],
)
async def test_an_answer_is_decided_for_claim_by_claim(answer: str, decision: str, cited: dict[str, str]) -> None:
    for guard in (RetrievalGuard(), RetrievalGuard(POLICY)):
        output = guard.invoke(given(answer))
        assert (report(output)["decision"], output.accepted) == (decision, decision == "accepted")
        assert {citation.text: citation.id for citation in output.citations} == cited
        for citation in output.citations:
            assert output.message.text[citation.start : citation.end] == citation.text
            assert (citation.grounding or 0.0) >= 0.5
        assert set(report(output)["documents"]) == ({"dog", "bird"} if answer.strip() else set())
        json.dumps(report(output))
    assert (await RetrievalGuard(POLICY).ainvoke(given(answer))) == output
    if decision == "flagged":
        with pytest.raises(LowGroundingError):
            RetrievalGuard(RAISES).invoke(given(answer))
        with pytest.raises(LowGroundingError):
            await RetrievalGuard(RAISES).ainvoke(given(answer))


def test_citations_stand_in_the_message() -> None:
    output = RetrievalGuard().invoke(given("The images show a bird and a dog."))
    (block,) = output.message.content_blocks
    assert block["type"] == "text"
    marks = [(mark["title"], mark["start_index"], mark["end_index"]) for mark in block["annotations"]]  # type: ignore[typeddict-item]
    assert marks == [(citation.id, citation.start, citation.end) for citation in output.citations]
    assert {mark["type"] for mark in block["annotations"]} == {"citation"}


@pytest.mark.parametrize("answer", ["Berlin.", "Paris.", "The capital of France is Berlin.", "There are two dogs."])
def test_claims_about_texts_are_unscored(answer: str) -> None:
    text = Document("The capital of France is Paris.", id="text")
    for documents in ([text], [document("dog"), text]):
        output = RetrievalGuard().invoke(given(answer, *documents, question="What is the capital of France?"))
        assert (report(output)["decision"], report(output)["score"], output.accepted) == ("unscored", None, False)
        assert report(output)["reason"]
        with pytest.raises(LowGroundingError):
            RetrievalGuard(RAISES).invoke(given(answer, *documents))


def test_a_picture_may_speak_for_a_claim_beside_texts() -> None:
    documents = [document("dog", "Taken in May."), Document("An invoice of March.", id="invoice")]
    output = RetrievalGuard().invoke(given("The image shows a dog.", *documents))
    assert (output.accepted, [citation.id for citation in output.citations]) == (True, ["dog"])
    shares = report(output)["documents"]
    assert shares["dog"] > shares["invoice"]


async def test_an_answer_is_written_where_there_is_none() -> None:
    output = RetrievalGuard(POLICY).invoke(given(None, document("dog")))
    assert output.accepted
    assert list(dict.fromkeys(citation.id for citation in output.citations)) == ["dog"]
    assert output.message.usage_metadata
    assert (await RetrievalGuard(POLICY).ainvoke(given(None, document("dog")))).message.text == output.message.text


def test_a_repaired_answer_cites_what_is_left_of_it() -> None:
    repairs = GuardPolicy(min_grounding=0.5, on_low="repair")
    output = RetrievalGuard(repairs).invoke(given("There is a zebra. There is a bird."))
    assert (report(output)["decision"], output.message.text, output.accepted) == ("repaired", "There is a bird.", True)
    ((start, end),) = [(citation.start, citation.end) for citation in output.citations]
    assert output.message.text[start:end] == "bird"
    nothing = RetrievalGuard(repairs).invoke(given("There is a zebra."))
    assert (report(nothing)["decision"], nothing.message.text, nothing.accepted) == ("repaired", "", False)
    assert "zebra" not in repr(nothing)


def test_a_fallback_stands_for_a_refused_answer() -> None:
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    output = RetrievalGuard(tells).invoke(given("The image shows a zebra."))
    assert (report(output)["decision"], output.message.text, output.citations) == ("fallback", "Look again.", ())


def test_pictures_come_in_every_form() -> None:
    raw = (PICTURES / "bird.png").read_bytes()
    encoded = base64.b64encode(raw).decode()
    fetching = SaliencyGuardedLVLM(fetch_image=lambda _: raw)
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(raw)).convert("RGB").save(jpeg, "JPEG", quality=95)
    forms = [
        Document(encoded),
        Document(base64.encodebytes(raw).decode()),
        Document(base64.b64encode(jpeg.getvalue()).decode()),
        Document(f"data:image/png;base64,{encoded}"),
        Document("", metadata={"picture": raw}),
        Document("", metadata={"picture": Image.open(io.BytesIO(raw))}),
        Document("", metadata={"picture": "https://example.org/a.png"}),
    ]
    for form in forms:
        guard = RetrievalGuard(scorer=fetching, image_key="picture")
        output = guard.invoke(given("The image shows a bird.", form))
        assert (output.accepted, [citation.id for citation in output.citations]) == (True, ["0"])


async def test_trouble_with_documents_leaves_an_answer_unscored() -> None:
    remote = Document("", metadata={"image": "https://example.org/a.png"})
    long = Document("word " * 20_000)
    for trouble, error in ((remote, ImageError), (long, ContextLengthError)):
        rag_input = given("The image shows a dog.", document("dog"), trouble)
        output = RetrievalGuard().invoke(rag_input)
        assert (report(output)["decision"], output.accepted, output.citations) == ("unscored", False, ())
        assert "the scorer could not judge it" in report(output)["reason"]
        assert await RetrievalGuard().ainvoke(rag_input) == output
        with pytest.raises(error):
            RetrievalGuard(on_error="raise").invoke(rag_input)
        with pytest.raises(error):  # Nothing could be written either.
            RetrievalGuard().invoke(given(None, document("dog"), trouble))


class Heard(BaseCallbackHandler):
    """Keeps the reports it is told."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        if name == "grounding_report":
            self.reports.append(data)


async def test_the_verdict_is_told_also_where_it_is_raised() -> None:
    heard = Heard()
    output = RetrievalGuard().invoke(given("The image shows a zebra."), {"callbacks": [heard]})
    assert heard.reports == [{**report(output), "attempt": 0}]
    for answer in ("The image shows a zebra.", ""):
        heard = Heard()
        with pytest.raises(LowGroundingError):
            RetrievalGuard(RAISES).invoke(given(answer), {"callbacks": [heard]})
        with pytest.raises(LowGroundingError):
            await RetrievalGuard(RAISES).ainvoke(given(answer), {"callbacks": [heard]})
        assert [told["decision"] for told in heard.reports] == ["raised", "raised"]
        assert "zebra" not in repr(heard.reports)


async def test_a_stream_adds_up_to_the_answer() -> None:
    for answer in ("The images show a bird and a dog.", "The image shows a zebra.", None):
        output = RetrievalGuard().invoke(given(answer))
        pieces = list(RetrievalGuard().stream(given(answer)))
        whole = sum(pieces[1:], pieces[0])
        assert len(pieces) > 1
        assert (whole.citations, whole.accepted) == (output.citations, output.accepted)
        assert whole.message.text == output.message.text
        assert whole.message.response_metadata == output.message.response_metadata
        again = [piece async for piece in RetrievalGuard().astream(given(answer))]
        assert [piece.message.content for piece in again] == [piece.message.content for piece in pieces]


class State(TypedDict):
    cited: CitedAnswer


def test_a_cited_answer_survives_strict_checkpoints() -> None:
    output = RetrievalGuard().invoke(given("The images show a bird and a dog.", document("dog"), document("bird")))
    strict = JsonPlusSerializer(allowed_msgpack_modules=[CitedAnswer, Citation])
    assert strict.loads_typed(strict.dumps_typed(output)) == output
    # A serializer that knows neither gives plain values back, which still say everything.
    unknown = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert CitedAnswer(**unknown.loads_typed(unknown.dumps_typed(output))) == output
    saver = InMemorySaver(serde=strict)
    graph = (
        StateGraph(State)
        .add_node("rag", lambda _: {"cited": output})
        .add_edge(START, "rag")
        .compile(checkpointer=saver)
    )
    config = {"configurable": {"thread_id": "1"}}
    graph.invoke({"cited": CitedAnswer(AIMessage(""))}, config)  # type: ignore[arg-type]
    assert graph.get_state(config).values["cited"] == output  # type: ignore[arg-type]


def test_pages_of_one_source() -> None:
    pages = [
        Document("", metadata={"image": str(PICTURES / f"{name}.png"), "source": "f.pdf"}) for name in ("dog", "bird")
    ]
    output = RetrievalGuard().invoke(given(AIMessage("The image shows a bird."), *pages))
    assert set(report(output)["documents"]) == {"f.pdf", "f.pdf#2"}
    assert [(citation.id, citation.index) for citation in output.citations] == [("f.pdf#2", 1)]


def test_bad_input_is_said() -> None:
    for wrong in ({"documents": []}, None, {"question": "What?", "documents": "a"}):
        with pytest.raises(ConfigError):
            RetrievalGuard().invoke(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no text and no picture"):
        RetrievalGuard().invoke({"question": "What?", "documents": [Document(page_content=" ")]})
