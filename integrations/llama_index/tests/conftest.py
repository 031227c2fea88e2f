"""Pictures, the embedded model, a model that says what it is told to, and what the dispatcher hears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from forced_text import Writes
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse, ImageBlock, LLMMetadata, TextBlock
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.prompts import RichPromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from llama_index.llms.saliency_guard import SaliencyGuardedLVLM

EXAMPLES = Path(__file__).parents[3] / "examples"
DESCRIBE = "Describe the image in detail."
Ask = Callable[..., list[ChatMessage]]

# Many threads only wait for each other on a model this small.
torch.set_num_threads(1)


class Says(CustomLLM):
    """Says one text after the other: the model whose answers are to be guarded."""

    texts: list[str]
    prompts: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, context_window=200_000)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=self.texts.pop(0))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Iterator[CompletionResponse]:
        self.prompts.append(prompt)

        def pieces() -> Iterator[CompletionResponse]:
            text = self.texts.pop(0)
            yield CompletionResponse(text=text, delta=text)

        return pieces()


class Shelf(BaseRetriever):
    """Always the same nodes."""

    def __init__(self, nodes: Sequence[BaseNode]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=node, score=1.0) for node in self.nodes]


class _Ear(BaseEventHandler):
    heard: list[Any]

    @classmethod
    def class_name(cls) -> str:
        return "Ear"

    def handle(self, event: Any, **_: Any) -> None:
        self.heard.append(event)


@pytest.fixture(autouse=True)
def own_event_loop() -> Iterator[None]:
    """LlamaIndex makes an event loop where a thread has none, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    root = get_dispatcher()
    ear = _Ear(heard=[])
    root.add_event_handler(ear)
    yield ear.heard
    root.event_handlers.remove(ear)


@pytest.fixture(scope="session")
def llm() -> SaliencyGuardedLVLM:
    return SaliencyGuardedLVLM(context_window=16_384)


@pytest.fixture(scope="session")
def writes(llm: SaliencyGuardedLVLM) -> Callable[[str], Writes]:
    return lambda text: Writes(llm.engine().processor.tokenizer, text)


class Counts:
    """How often pictures are fetched and prompts prepared."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.prepared = 0

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        return (EXAMPLES / "desk.png").read_bytes()


@pytest.fixture
def counts(llm: SaliencyGuardedLVLM, monkeypatch: pytest.MonkeyPatch) -> Counts:
    counted = Counts()
    processor = type(llm.engine().processor)
    original = processor.apply_chat_template

    def apply_chat_template(self: object, *args: object, **settings: object) -> object:
        counted.prepared += "Is this true" not in str(args)  # What verifies claims is another prompt.
        return original(self, *args, **settings)

    monkeypatch.setattr(processor, "apply_chat_template", apply_chat_template)
    return counted


@pytest.fixture(scope="session")
def ask() -> Ask:
    def asked(question: str = DESCRIBE, picture: Any = EXAMPLES / "desk.png") -> list[ChatMessage]:
        image = picture if isinstance(picture, ImageBlock) else ImageBlock(path=picture)
        return [ChatMessage(role="user", blocks=[image, TextBlock(text=question)])]

    return asked


@pytest.fixture(scope="session")
def says() -> Callable[..., Says]:
    return lambda *texts: Says(texts=list(texts), prompts=[])


@pytest.fixture(scope="session")
def engine() -> Callable[..., RetrieverQueryEngine]:
    """A query engine over pictures of examples/pictures, by name, or any nodes."""
    template = RichPromptTemplate(
        '{% chat role="user" %}{% for message in context_messages %}{% for block in message.blocks %}'
        '{% if block.block_type == "image" %}{{ block.inline_url() | image }}'
        '{% elif block.block_type == "text" %}{{ block.text }}{% endif %}'
        "{% endfor %}{% endfor %}{{ query_str }}{% endchat %}"
    )

    def made(llm: Any, *nodes: str | BaseNode, **settings: Any) -> RetrieverQueryEngine:
        found = [
            ImageNode(id_=node, image_path=str(EXAMPLES / "pictures" / f"{node}.png"))
            if isinstance(node, str)
            else node
            for node in nodes
        ]
        settings = {"multimodal": True, "chat_content_qa_template": template, **settings}
        return RetrieverQueryEngine.from_args(Shelf(found), llm=llm, **settings)

    return made
