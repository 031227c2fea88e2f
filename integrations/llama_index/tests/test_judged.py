"""What is judged, what there is nothing to judge about, and what nobody could judge: no answer passes unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentOutput, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, DocumentBlock, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.base.response.schema import Response
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.query_engine import CitationQueryEngine, CustomQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.types import SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool

from llama_index.llms.saliency_guard import (
    GroundedAgentMixin,
    GroundedQueryEngine,
    SaliencyGuardedLVLM,
)
from saliency_guard import GuardPolicy, ImageError, LowGroundingError

DESCRIBE = "Describe the image in detail."
EXAMPLES = Path(__file__).parents[3] / "examples"
BAD = "There is a zebra."
THOUGHT = "Thought: I can answer without using any more tools.\nAnswer: "
POLICY = GuardPolicy(min_grounding=0.5)
RAISES = GuardPolicy(min_grounding=0.5, on_low="raise", unscored="raise")
Ask = Callable[..., list[ChatMessage]]


class GroundedReActAgent(GroundedAgentMixin, ReActAgent):
    pass


class GroundedFunctionAgent(GroundedAgentMixin, FunctionAgent):
    pass


class Questions:
    """Asks one question of a tool, whatever it is asked."""

    def generate(self, tools: Any, query: QueryBundle) -> list[SubQuestion]:
        return [SubQuestion(sub_question=query.query_str, tool_name=tools[0].name)]

    async def agenerate(self, tools: Any, query: QueryBundle) -> list[SubQuestion]:
        return self.generate(tools, query)


def grounding(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.metadata["grounding"]
    return found


def run(agent: Any, message: ChatMessage, **settings: Any) -> AgentOutput:
    async def ran() -> AgentOutput:
        output: AgentOutput = await agent.run(user_msg=message, **settings)
        return output

    return asyncio.run(ran())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_engines_that_hand_on_other_nodes_are_judged_by_what_was_retrieved(
    says: Any, engine: Any, asynchronous: bool
) -> None:
    for answer, decision in ((BAD, "flagged"), ("The image shows a dog.", "accepted")):
        inner = engine(says(answer, answer), "dog", multimodal=False)
        citing = CitationQueryEngine(inner.retriever, llm=says(answer))
        tool = QueryEngineTool.from_defaults(inner, name="pictures", description="Knows pictures.")
        asking = SubQuestionQueryEngine.from_defaults(
            [tool],
            llm=says(answer),
            question_gen=Questions(),
            response_synthesizer=inner._response_synthesizer,
            use_async=asynchronous,
        )
        for unguarded in (citing, asking):
            guarded = GroundedQueryEngine(unguarded, POLICY)
            response = asyncio.run(guarded.aquery(DESCRIBE)) if asynchronous else guarded.query(DESCRIBE)
            assert (response.response, grounding(response)["decision"]) == (answer, decision)
            assert list(grounding(response)["nodes"]) == ["dog"]


def test_nothing_of_a_replaced_answer_is_in_what_an_engine_made_it_of(says: Any, engine: Any) -> None:
    inner = engine(says(BAD), "dog")
    tool = QueryEngineTool.from_defaults(inner, name="pictures", description="Knows pictures.")
    asking = SubQuestionQueryEngine.from_defaults(
        [tool],
        llm=says(BAD),
        question_gen=Questions(),
        response_synthesizer=get_response_synthesizer(llm=says(BAD)),
        use_async=False,
    )
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    response = GroundedQueryEngine(asking, tells).query(DESCRIBE)
    assert str(response) == "Look again."
    assert [node.node.node_id for node in response.source_nodes] == ["dog"]
    assert "zebra" not in repr(response)


def test_a_chat_engine_gives_out_and_remembers_what_the_guard_does(says: Any, engine: Any) -> None:
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    guarded = GroundedQueryEngine(engine(says(BAD, BAD), "dog"), tells)
    chat = CondenseQuestionChatEngine.from_defaults(query_engine=guarded, llm=says(DESCRIBE))
    responses = [chat.chat(DESCRIBE), asyncio.run(chat.achat("And again?"))]
    assert [str(response) for response in responses] == ["Look again."] * 2
    assert "zebra" not in repr(responses) + repr(chat.chat_history)
    flagging = GroundedQueryEngine(engine(says(BAD), "dog"), POLICY)
    flagged = CondenseQuestionChatEngine.from_defaults(query_engine=flagging, llm=says(DESCRIBE)).chat(DESCRIBE)
    assert "not grounded" in str(flagged)


@pytest.mark.parametrize("mode", ["accumulate", "compact_accumulate"])
def test_accumulated_answers_are_judged_together(says: Any, engine: Any, mode: str) -> None:
    tells = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")

    def answered(policy: GuardPolicy) -> Any:
        inner = engine(says(BAD, BAD), "dog", "bird", response_mode=mode)
        return GroundedQueryEngine(inner, policy).query(DESCRIBE)

    flagged = answered(POLICY)
    assert grounding(flagged)["decision"] == "flagged"
    assert "not grounded" in str(flagged)
    replaced = answered(tells)
    assert str(replaced) == "Look again."
    assert "zebra" not in repr(replaced)


class Relabels(CustomQueryEngine):
    """Hands on texts of its own, under the ids of the pictures that it retrieved."""

    retriever: Any
    answer: str

    def custom_query(self, query_str: str) -> Response:
        nodes = self.retriever.retrieve(query_str)
        texts = [NodeWithScore(node=TextNode(id_=node.node.node_id, text=self.answer)) for node in nodes]
        return Response(self.answer, source_nodes=texts)


def test_a_text_with_the_id_of_a_picture_does_not_stand_for_it(says: Any, engine: Any) -> None:
    retriever = engine(says(), "dog", multimodal=False).retriever
    for answer, decision in ((BAD, "flagged"), ("The image shows a dog.", "accepted")):
        response = GroundedQueryEngine(Relabels(retriever=retriever, answer=answer), POLICY).query(DESCRIBE)
        assert grounding(response)["decision"] == decision


def test_a_node_that_cannot_be_read_leaves_the_answer_unscored(says: Any, engine: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    remote = ImageNode(image_url="https://example.org/a.png")
    for node in (ImageNode(image_path=str(broken)), remote):
        inner = engine(says(BAD, BAD, BAD), node, "dog", multimodal=False)
        response = GroundedQueryEngine(inner, POLICY).query(DESCRIBE)
        assert (grounding(response)["decision"], response.response) == ("unscored", BAD)
        assert "the scorer could not judge it" in grounding(response)["reason"]
        with pytest.raises(LowGroundingError):
            GroundedQueryEngine(inner, RAISES).query(DESCRIBE)
        with pytest.raises(ImageError):
            GroundedQueryEngine(inner, POLICY, on_error="raise").query(DESCRIBE)


def test_a_caller_says_what_to_score(says: Any, engine: Any, ask: Ask) -> None:
    asked: list[Any] = []

    def never(request: Any, answer: Any) -> bool:
        asked.append((request, answer))
        return False

    response = GroundedQueryEngine(engine(says(BAD), "dog"), RAISES, should_score=never).query(DESCRIBE)
    assert grounding(response)["decision"] == "not_applicable"
    output = run(GroundedReActAgent(llm=says(THOUGHT + BAD), tools=[], policy=RAISES, should_score=never), ask()[0])
    assert (str(output), output.raw["grounding"]["decision"]) == (BAD, "not_applicable")
    assert asked[0][0].query_str == DESCRIBE
    assert asked[1][0][-1] == ask()[0]


def test_a_turn_about_no_picture_passes(says: Any, ask: Ask) -> None:
    paris = "The capital of France is Paris."
    history = [ask()[0], ChatMessage("There is a cup.", role="assistant")]
    agent = GroundedReActAgent(llm=says(THOUGHT + paris, THOUGHT + BAD), tools=[], policy=RAISES)
    output = run(agent, ChatMessage("What is the capital of France?"), chat_history=history)
    assert (str(output), output.raw["grounding"]["decision"]) == (paris, "not_applicable")
    with pytest.raises(LowGroundingError):
        run(agent, ChatMessage("What is on the right?"), chat_history=history)


def photo() -> ImageBlock:
    """Take a picture."""
    return ImageBlock(path=EXAMPLES / "desk.png")


def test_a_tool_s_picture_counts_for_react_too(says: Any) -> None:
    action = "Thought: I need a tool.\nAction: photo\nAction Input: {}"
    for answer, decision in (("There is a zebra.", "flagged"), ("There is a cup.", "accepted")):
        agent = GroundedReActAgent(
            llm=says(action, THOUGHT + answer), tools=[FunctionTool.from_defaults(photo)], policy=POLICY
        )
        output = run(agent, ChatMessage("Describe the image in detail."))
        assert (str(output), output.raw["grounding"]["decision"]) == (answer, decision)


def test_what_the_scorer_cannot_read_kills_no_agent(says: Any, ask: Ask) -> None:
    pdf = DocumentBlock(data=b"%PDF-1.4 \xff\xfe", document_mimetype="application/pdf", title="a.pdf")
    remote = ImageBlock(url="https://example.org/a.png")
    for block in (pdf, remote):
        message = ChatMessage(blocks=[*ask()[0].blocks, block, TextBlock(text="And this?")])
        output = run(GroundedReActAgent(llm=says(THOUGHT + BAD), tools=[], policy=POLICY), message)
        assert (str(output), output.raw["grounding"]["decision"]) == (BAD, "unscored")
        with pytest.raises(LowGroundingError):
            run(GroundedReActAgent(llm=says(THOUGHT + BAD), tools=[], policy=RAISES), message)


def test_a_text_beside_a_tool_call_is_judged(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> str:
        """Look."""
        return "a table"

    llm = SaliencyGuardedLVLM(is_function_calling_model=True)
    agent = GroundedFunctionAgent(
        llm=llm, tools=[FunctionTool.from_defaults(look)], policy=POLICY, streaming=False, initial_tool_choice="look"
    )
    original = SaliencyGuardedLVLM.achat

    async def chatty(self: Any, messages: Any, **kwargs: Any) -> Any:
        response = await original(self, messages, **kwargs)
        if any(isinstance(block, ToolCallBlock) for block in response.message.blocks):
            response.message.blocks.insert(0, TextBlock(text=BAD))
        return response

    monkeypatch.setattr(SaliencyGuardedLVLM, "achat", chatty)

    async def outputs() -> list[AgentOutput]:
        handler = agent.run(user_msg=ask()[0])
        return [event async for event in handler.stream_events() if isinstance(event, AgentOutput)]

    assert asyncio.run(outputs())[0].raw["grounding"]["decision"] == "flagged"


def test_the_arguments_of_a_tool_call_are_judged(says: Any, ask: Ask) -> None:
    def say(what: str = "") -> str:
        """Say it."""
        return what

    def first(policy: GuardPolicy, arguments: str) -> dict[str, Any]:
        action = f"Thought: I need a tool.\nAction: say\nAction Input: {arguments}"
        agent = GroundedReActAgent(
            llm=says(action, THOUGHT + "There is a cup."), tools=[FunctionTool.from_defaults(say)], policy=policy
        )

        async def outputs() -> list[AgentOutput]:
            handler = agent.run(user_msg=ask()[0])
            found = [event async for event in handler.stream_events() if isinstance(event, AgentOutput)]
            await handler
            return found

        report: dict[str, Any] = asyncio.run(outputs())[0].raw["grounding"]
        return report

    assert first(POLICY, '{"what": "There is a zebra."}')["decision"] == "flagged"
    assert first(POLICY, '{"what": "There is a cup."}')["decision"] == "accepted"
    for words in ("left", "Anna"):
        assert first(POLICY, f'{{"what": "{words}"}}')["decision"] == "unscored"
        with pytest.raises(LowGroundingError):
            first(RAISES, f'{{"what": "{words}"}}')
    assert first(RAISES, "{}")["decision"] == "not_applicable"


def test_an_agent_reads_in_a_tool_s_result_that_an_answer_is_flagged(says: Any, engine: Any) -> None:
    def result(answer: str, policy: GuardPolicy = POLICY) -> str:
        guarded = GroundedQueryEngine(engine(says(answer), "dog"), policy)
        tool = QueryEngineTool.from_defaults(guarded, name="pictures", description="Knows pictures.")
        content: str = tool.call(DESCRIBE).content
        return content

    assert result(BAD).startswith(BAD)
    assert "not grounded" in result(BAD)
    assert result("The image shows a dog.") == "The image shows a dog."
