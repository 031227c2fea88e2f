"""LlamaIndex's RetryQueryEngine, with an evaluator that checks whether answers are grounded in the pictures.

Any model can answer; here it is a fake whose first answer is wrong. Run with ``python examples/llama_index_retry.py``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from llama_index.core import Settings
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.query_engine import RetrieverQueryEngine, RetryQueryEngine
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle

from llama_index.llms.saliency_guard import GroundingEvaluator
from saliency_guard import GuardPolicy

DOG = Path(__file__).parent / "pictures" / "dog.png"


class FakeLLM(CustomLLM):
    """A fake of a model behind an API: it returns its texts one after the other."""

    texts: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        """A chat model with a long context."""
        return LLMMetadata(is_chat_model=True, context_window=16_384)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:  # noqa: ARG002, FBT001, FBT002 - LlamaIndex's signature
        """The next text."""
        return CompletionResponse(text=self.texts.pop(0))

    @llm_completion_callback()
    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **_: Any,
    ) -> Generator[CompletionResponse, None, None]:
        """The next text, in one piece."""
        yield self.complete(prompt, formatted=formatted)


class OnePicture(BaseRetriever):
    """Always retrieves the picture of the dog."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:  # noqa: ARG002 - LlamaIndex's signature
        return [NodeWithScore(node=ImageNode(id_=DOG.name, image_path=str(DOG)), score=1.0)]


def main() -> None:
    """Ask a question: the first answer is refused, the second one passes."""
    llm = FakeLLM(texts=["There is a zebra.", "The image shows a dog."])
    Settings.llm = llm  # RetryQueryEngine rewrites queries with it.
    inner = RetrieverQueryEngine.from_args(OnePicture(), llm=llm, multimodal=True)
    evaluator = GroundingEvaluator(GuardPolicy(min_grounding=0.5))
    response = RetryQueryEngine(inner, evaluator, max_retries=2).query("What animal is in the picture?")
    result = evaluator.evaluate_response("What animal is in the picture?", response)
    print(f"{response} (passing: {result.passing}, grounding {result.score:.2f})")
    # RetryQueryEngine returns its last answer unevaluated and has no fallback; see GroundedQueryEngine for both.


if __name__ == "__main__":
    main()
