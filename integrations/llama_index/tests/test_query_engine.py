"""The guarded query engine and the evaluator, over pictures, with the embedded model inside or as a judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from packaging.version import Version
from pydantic import BaseModel

from llama_index.llms.saliency_guard import (
    GroundedQueryEngine,
    GroundingRetryEvent,
    GroundingScoreEvent,
    SaliencyGuardedLVLM,
)
from saliency_guard import ContextLengthError, GuardPolicy, ImageError, LowGroundingError, RetryPlan

DESCRIBE = "Describe the image in detail."
PICTURES = Path(__file__).parents[3] / "examples" / "pictures"
LOW = GuardPolicy(min_grounding=0.5, max_retries=1)
Engine = Callable[..., Any]


packs_pictures = pytest.mark.skipif(
    Version(version("llama-index-core")) < Version("0.14.25"), reason="asks picture by picture, whatever the window"
)


def grounding(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.metadata["grounding"]
    return found


@packs_pictures
def test_a_good_answer_passes_with_shares_of_all_nodes(
    llm: SaliencyGuardedLVLM, engine: Engine, heard: list[Any]
) -> None:
    response = GroundedQueryEngine(engine(llm, "dog", "bird"), LOW, report="tokens").query(DESCRIBE)
    report = grounding(response)
    assert report["decision"] == "accepted"
    assert report["score"] > 0.5
    assert list(report["nodes"]) == ["dog", "bird"]
    assert all(share > 0.1 for share in report["nodes"].values())
    cited = report["citations"]
    assert "bird" in {citation["node"] for citation in cited}
    for citation in cited:
        start, end = citation["span"]
        assert response.response[start:end] == citation["text"]
        assert citation["grounding"] >= 0.5
    assert "".join(token["text"] for token in report["tokens"]) == response.response
    assert [call["score"] is not None for call in report["calls"]] == [True]
    assert set(response.metadata) == {"dog", "bird", "grounding"}
    assert [node.node.node_id for node in response.source_nodes] == ["dog", "bird"]
    assert [event for event in heard if isinstance(event, GroundingScoreEvent)][-1].report == report


def test_a_refused_answer_of_any_llm_is_drawn_anew(says: Any, engine: Engine, heard: list[Any]) -> None:
    llm = says("There is a zebra.", "The image shows a dog.")
    response = GroundedQueryEngine(engine(llm, "dog"), LOW, report="full").query(DESCRIBE)
    assert response.response == "The image shows a dog."
    assert [attempt["text"] for attempt in grounding(response)["attempts"]] == [
        "There is a zebra.",
        "The image shows a dog.",
    ]
    (retry,) = [event for event in heard if isinstance(event, GroundingRetryEvent)]
    assert (retry.attempt, retry.verdict, retry.text) == (0, "refused", "There is a zebra.")
    assert retry.reason


def test_another_llm_is_asked_otherwise_in_every_retry(says: Any, engine: Engine) -> None:
    llm = says(*["There is a zebra."] * 3)
    never = GuardPolicy(min_grounding=0.5, max_retries=2)
    report = grounding(GroundedQueryEngine(engine(llm, "dog"), never).query(DESCRIBE))
    assert len(set(llm.prompts)) == 3
    assert [attempt["change"] for attempt in report["attempts"]] == ["", *["asked to look again"] * 2]


def test_our_llm_draws_with_another_seed_through_predict(llm: SaliencyGuardedLVLM, engine: Engine) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=3, retry=RetryPlan(temperature=1.5))
    report = grounding(GroundedQueryEngine(engine(llm, "dog"), never, seed=3, report="full").query(DESCRIBE))
    assert report["decision"] == "flagged"
    assert len({attempt["text"] for attempt in report["attempts"]}) > 1
    again = grounding(GroundedQueryEngine(engine(llm, "dog"), never, seed=3, report="full").query(DESCRIBE))
    assert again == report


def test_a_retry_does_not_prepare_its_prompts_again(llm: SaliencyGuardedLVLM, engine: Engine, counts: Any) -> None:
    never = GuardPolicy(min_grounding=1.0, max_retries=2)
    guarded = GroundedQueryEngine(engine(llm, "dog"), never, seed=3)
    assert len(grounding(guarded.query(DESCRIBE))["attempts"]) == 3
    assert counts.prepared == 2  # That of the synthesizer, and that of the nodes.
    assert len(grounding(asyncio.run(guarded.aquery(DESCRIBE)))["attempts"]) == 3
    assert counts.prepared == 4


def test_flag_raise_and_fallback(says: Any, engine: Engine, llm: SaliencyGuardedLVLM) -> None:
    bad = "There is a zebra."
    flagged = GroundedQueryEngine(engine(says(bad), "dog"), GuardPolicy(min_grounding=0.5)).query(DESCRIBE)
    assert (flagged.response, grounding(flagged)["decision"]) == (bad, "flagged")
    with pytest.raises(LowGroundingError):
        GroundedQueryEngine(engine(says(bad), "dog"), GuardPolicy(min_grounding=0.5, on_low="raise")).query(DESCRIBE)
    unsure = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda messages, attempts: "I cannot tell.")
    told = GroundedQueryEngine(engine(says(bad), "dog"), unsure).query(DESCRIBE)
    assert (told.response, grounding(told)["decision"]) == ("I cannot tell.", "fallback")
    other = GroundedQueryEngine(
        engine(says(bad), "dog"), GuardPolicy(min_grounding=0.5), fallback_engine=engine(llm, "dog")
    ).query(DESCRIBE)
    assert "dog" in other.response
    assert grounding(other)["decision"] == "fallback"


def test_streams_hold_verified_text_only(says: Any, engine: Engine) -> None:
    guarded = GroundedQueryEngine(
        engine(says("There is a zebra.", "The image shows a dog."), "dog", streaming=True), LOW
    )
    response = guarded.query(DESCRIBE)
    assert isinstance(response, StreamingResponse)
    pieces = list(response.response_gen)
    assert "".join(pieces) == "The image shows a dog."
    assert len(pieces) > 1
    assert grounding(response)["decision"] == "accepted"

    async def streamed() -> str:
        inner = engine(says("There is a zebra.", "The image shows a dog."), "dog", streaming=True)
        response = await GroundedQueryEngine(inner, LOW).aquery(DESCRIBE)
        assert isinstance(response, AsyncStreamingResponse)
        return "".join([piece async for piece in response.async_response_gen()])

    assert asyncio.run(streamed()) == "The image shows a dog."


def test_concurrent_queries_do_not_mix(llm: SaliencyGuardedLVLM, engine: Engine) -> None:
    names = ["dog", "bird", "glass", "umbrella"]

    async def all_of_them() -> list[Any]:
        guarded = [GroundedQueryEngine(engine(llm, name), GuardPolicy(min_grounding=0.0)) for name in names]
        return await asyncio.gather(*(item.aquery(DESCRIBE) for item in guarded))

    for name, response in zip(names, asyncio.run(all_of_them()), strict=True):
        report = grounding(response)
        assert list(report["nodes"]) == [name]
        (call,) = report["calls"]
        assert call["score"] is not None
        assert response.response == str(engine(llm, name).query(DESCRIBE))


def test_refine_calls_are_put_together(engine: Engine) -> None:
    small = SaliencyGuardedLVLM()  # Its real window: one picture at a time.
    report = grounding(
        GroundedQueryEngine(engine(small, "dog", "bird"), GuardPolicy(min_grounding=0.0)).query(DESCRIBE)
    )
    assert len(report["calls"]) == 2
    assert list(report["nodes"]) == ["dog", "bird"]


def test_errors_that_synthesizers_swallow_are_raised(llm: SaliencyGuardedLVLM, engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    inner = engine(llm, ImageNode(image_path=str(broken)))
    assert str(inner.query(DESCRIBE)) == "Empty Response"  # Without the guard.
    with pytest.raises(ImageError):
        GroundedQueryEngine(inner, LOW).query(DESCRIBE)


@packs_pictures
def test_nodes_that_do_not_fit_into_one_prompt(llm: SaliencyGuardedLVLM, says: Any, engine: Engine) -> None:
    many = [ImageNode(id_=str(n), image_path=str(PICTURES / "bird.png")) for n in range(36)]
    many.append(ImageNode(id_="dog", image_path=str(PICTURES / "dog.png")))
    # The best of single nodes would be a maximum that no calibration covers.
    too_many = GroundedQueryEngine(engine(says("The image shows a dog."), *many), GuardPolicy(min_grounding=0.5))
    report = grounding(too_many.query(DESCRIBE))
    assert (report["decision"], report["score"], report["nodes"]) == ("unscored", None, {})
    assert "could not judge" in report["reason"]
    # What fits is scored in one prompt; no calibration covers so many pictures.
    few = GroundedQueryEngine(engine(says("The image shows a dog."), *many[-9:]), GuardPolicy(min_grounding=0.5))
    uncovered = grounding(few.query(DESCRIBE))
    assert uncovered["decision"] == "unscored"
    assert "has 9 pictures" in uncovered["reason"]
    policy, long = GuardPolicy(min_grounding=0.5), "dog " * 2000
    unscored = grounding(GroundedQueryEngine(engine(says(long), "dog"), policy).query(DESCRIBE))
    assert unscored["decision"] == "unscored"
    assert "could not judge" in unscored["reason"]
    with pytest.raises(ContextLengthError):
        GroundedQueryEngine(engine(says(long), "dog"), policy, on_error="raise").query(DESCRIBE)


def test_an_empty_answer_is_refused(says: Any, engine: Engine) -> None:
    for first in ("There is a zebra.", " "):
        response = GroundedQueryEngine(engine(says(first, " "), "dog"), LOW).query(DESCRIBE)
        assert response.response.strip() == first.strip()
        assert grounding(response)["decision"] == "flagged"
    response = GroundedQueryEngine(engine(says(" ", "The image shows a dog."), "dog"), LOW).query(DESCRIBE)
    assert grounding(response)["decision"] == "accepted"


def test_text_alone_passes_unscored(says: Any, engine: Engine) -> None:
    inner = engine(says("A cat."), TextNode(text="The cat sat on the mat."), multimodal=False)
    report = grounding(GroundedQueryEngine(inner, LOW).query("Who sat?"))
    assert (report["decision"], report["score"]) == ("not_applicable", None)


@pytest.mark.parametrize(
    ("answer", "decision", "cited"),
    [
        ("The images show a bird and a dog.", "accepted", ["bird", "dog"]),
        ("There is no zebra in the image.", "accepted", []),
        ("There is no bird in the image.", "flagged", []),
        ("The images show a bird, a dog and a zebra.", "flagged", ["bird", "dog"]),
    ],
)
def test_every_claim_is_judged_against_every_node(
    says: Any, engine: Engine, answer: str, decision: str, cited: list[str]
) -> None:
    policy = GuardPolicy(min_grounding=0.5)
    for asynchronous in (False, True):
        guarded = GroundedQueryEngine(engine(says(answer), "dog", "bird", multimodal=False), policy)
        report = grounding(asyncio.run(guarded.aquery(DESCRIBE)) if asynchronous else guarded.query(DESCRIBE))
        assert (report["decision"], [citation["node"] for citation in report["citations"]]) == (decision, cited)


def test_what_may_rest_on_a_text_is_unscored(says: Any, engine: Engine) -> None:
    text = TextNode(id_="note", text="The capital of France is Paris.")
    for answer in ("Berlin.", "The capital of France is Berlin.", "The image shows a zebra."):
        guarded = GroundedQueryEngine(engine(says(answer), text, "dog"), GuardPolicy(min_grounding=0.5))
        report = grounding(guarded.query("What is the capital of France?"))
        assert (report["decision"], report["score"]) == ("unscored", None)
        assert "text" in report["reason"]


class Found(CustomQueryEngine):
    """Answers with these nodes, however their ids repeat."""

    nodes: list[Any]
    answer: str

    def custom_query(self, query_str: str) -> Response:
        return Response(self.answer, source_nodes=[NodeWithScore(node=node) for node in self.nodes])


def test_pictures_of_one_id_are_told_apart() -> None:
    nodes = [ImageNode(id_="page", image_path=str(PICTURES / f"{name}.png")) for name in ("dog", "bird")]
    for name, cited in (("dog", "page"), ("bird", "page#2")):
        inner = Found(nodes=nodes, answer=f"The image shows a {name}.")
        report = grounding(GroundedQueryEngine(inner, GuardPolicy(min_grounding=0.5)).query(DESCRIBE))
        assert (report["decision"], set(report["nodes"])) == ("accepted", {"page", "page#2"})
        assert [citation["node"] for citation in report["citations"]] == [cited]


def test_a_repaired_answer_is_what_is_left(says: Any, engine: Engine) -> None:
    repairs = GuardPolicy(min_grounding=0.5, on_low="repair")
    guarded = GroundedQueryEngine(
        engine(says("There is a zebra. There is a dog.", "There is a zebra."), "dog"), repairs
    )
    response = guarded.query(DESCRIBE)
    assert (str(response), grounding(response)["decision"]) == ("There is a dog.", "repaired")
    assert [citation["text"] for citation in grounding(response)["citations"]] == ["dog"]
    nothing = guarded.query(DESCRIBE)
    assert (nothing.response, grounding(nothing)["decision"]) == ("", "repaired")
    assert "none of its claims is grounded" in str(nothing)
    assert "zebra" not in str(response) + str(nothing) + repr(response.metadata) + repr(nothing.metadata)


def test_a_stream_of_a_flagged_answer_ends_with_a_warning(says: Any, engine: Engine) -> None:
    policy, bad = GuardPolicy(min_grounding=0.5), "There is a zebra."
    asking = GroundedQueryEngine(engine(says(*[bad] * 4, "The image shows a dog."), "dog", streaming=True), policy)
    assert "not grounded" in "".join(asking.query(DESCRIBE).response_gen)
    assert "not grounded" in str(asking.query(DESCRIBE))
    whole = asking.query(DESCRIBE).get_response()
    assert (whole.response, grounding(whole)["decision"]) == (bad, "flagged")
    assert "not grounded" in str(whole)

    async def streamed() -> tuple[str, Any]:
        response = await asking.aquery(DESCRIBE)
        text = "".join([piece async for piece in response.async_response_gen()])
        return text, await response.get_response()

    text, complete = asyncio.run(streamed())
    assert text.startswith(bad)
    assert "not grounded" in text
    assert complete.response == bad
    assert "".join(asking.query(DESCRIBE).response_gen) == "The image shows a dog."


def test_texts_beside_pictures_have_shares(says: Any, engine: Engine) -> None:
    inner = engine(says("The image shows a dog."), TextNode(id_="note", text="It was a good day."), "dog")
    nodes = grounding(GroundedQueryEngine(inner, GuardPolicy(min_grounding=0.0)).query(DESCRIBE))["nodes"]
    assert set(nodes) == {"note", "dog"}
    assert min(nodes.values()) > 0


def test_objects_stay_objects(llm: SaliencyGuardedLVLM, engine: Engine) -> None:
    class Scene(BaseModel):
        caption: str

    inner = engine(llm.as_structured_llm(Scene), "dog")
    response = GroundedQueryEngine(inner, GuardPolicy(min_grounding=0.0)).query(DESCRIBE)
    assert isinstance(response.response, Scene)
    assert grounding(response)["decision"] is not None


def test_weak_words_are_named_in_the_query(says: Any, engine: Engine, heard: list[Any]) -> None:
    policy = GuardPolicy(min_grounding=0.5, max_retries=1, retry=RetryPlan(new_seed=False, name_spans=True))
    response = GroundedQueryEngine(engine(says("There is a zebra.", "The image shows a dog."), "dog"), policy).query(
        DESCRIBE
    )
    assert grounding(response)["attempts"][1]["change"] == "asked to check 1 word"
    assert any("Check these words: zebra" in str(getattr(event, "messages", "")) for event in heard)


def test_modules_and_retrieval_are_those_of_the_inner_engine(llm: SaliencyGuardedLVLM, engine: Engine) -> None:
    from llama_index.core.schema import QueryBundle

    guarded = GroundedQueryEngine(engine(llm, "dog"), LOW)
    assert any("query_engine" in name for name in guarded.get_prompts())
    nodes = guarded.retrieve(QueryBundle(DESCRIBE))
    assert [node.node.node_id for node in nodes] == ["dog"]
    assert "dog" in str(guarded.synthesize(QueryBundle(DESCRIBE), nodes))
    assert "dog" in str(asyncio.run(guarded.asynthesize(QueryBundle(DESCRIBE), nodes)))


# The evaluator.
