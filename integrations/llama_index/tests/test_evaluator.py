"""The evaluator: alone, and in what LlamaIndex builds on evaluators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.response.schema import Response
from llama_index.core.evaluation import BaseEvaluator
from llama_index.core.query_engine import RetryQueryEngine
from llama_index.core.schema import ImageNode, NodeWithScore
from llama_index.core.tools.eval_query_engine import EvalQueryEngineTool

from llama_index.llms.saliency_guard import (
    GroundingEvaluator,
)
from saliency_guard import GuardPolicy, ImageError

DESCRIBE = "Describe the image in detail."
PICTURES = Path(__file__).parents[3] / "examples" / "pictures"
Engine = Callable[..., Any]


def evaluator(**settings: Any) -> GroundingEvaluator:
    return GroundingEvaluator(GuardPolicy(min_grounding=0.5), **settings)


def response_of(text: str, *names: str) -> Response:
    nodes = [NodeWithScore(node=ImageNode(image_path=str(PICTURES / f"{name}.png"))) for name in names]
    return Response(text, source_nodes=nodes)


def test_evaluation_sees_the_pictures_of_the_sources() -> None:
    good = evaluator().evaluate_response(DESCRIBE, response_of("The image shows a dog.", "dog"))
    assert good.passing
    assert good.score is not None
    assert good.score > 0.5
    bad = asyncio.run(evaluator().aevaluate_response(DESCRIBE, response_of("There is a zebra.", "dog")))
    assert bad.passing is False
    assert "zebra" in str(bad.feedback)
    by_base = BaseEvaluator.evaluate_response(evaluator(), DESCRIBE, response_of("The image shows a dog.", "dog"))
    assert by_base.invalid_result  # The base class hands on texts alone: the pictures are lost there.


def test_evaluation_of_texts_with_pictures() -> None:
    for image in (
        str(PICTURES / "dog.png"),
        (PICTURES / "dog.png").read_bytes(),
        ImageNode(image_path=str(PICTURES / "dog.png")),
    ):
        assert evaluator().evaluate(DESCRIBE, "The image shows a dog.", images=[image]).passing
    result = asyncio.run(evaluator(scorer="embedded").aevaluate(DESCRIBE, "A dog.", ["A note."]))
    assert (result.passing, result.invalid_result) == (False, True)
    assert result.feedback
    assert evaluator().evaluate(DESCRIBE, " ", images=[PICTURES / "dog.png"]).invalid_result
    with pytest.raises(ValueError, match="query"):
        evaluator().evaluate(response="A dog.")


def test_an_evaluator_s_trouble_does_not_pass() -> None:
    nodes = [NodeWithScore(node=ImageNode(image_url="https://example.org/a.png"))]
    response = Response("The image shows a dog.", source_nodes=nodes)
    evaluated = [
        evaluator().evaluate_response(DESCRIBE, response),
        asyncio.run(evaluator().aevaluate_response(DESCRIBE, response)),
    ]
    for result in evaluated:
        assert (result.passing, result.invalid_result) == (False, True)
        assert "the scorer could not judge it" in str(result.invalid_reason)
    with pytest.raises(ImageError):
        evaluator(on_error="raise").evaluate_response(DESCRIBE, response)


def test_retry_query_engine_works_as_it_is(says: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = says("There is a zebra.", "The image shows a dog.")
    monkeypatch.setattr(Settings, "_llm", llm)
    retrying = RetryQueryEngine(engine(llm, "dog"), evaluator(), max_retries=2)
    assert str(retrying.query(DESCRIBE)) == "The image shows a dog."
    assert llm.texts == []


def test_eval_query_engine_tool_works_as_it_is(says: Any, engine: Engine) -> None:
    def tool(text: str) -> EvalQueryEngineTool:
        return EvalQueryEngineTool.from_defaults(engine(says(text), "dog"), evaluator=evaluator())

    assert tool("The image shows a dog.").call(DESCRIBE).content == "The image shows a dog."
    failed = asyncio.run(tool("There is a zebra.").acall(DESCRIBE))
    assert "zebra" in failed.content
    assert "failed evaluation" in failed.content
