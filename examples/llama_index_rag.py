"""Multimodal RAG over a folder of pictures: retrieve, answer, and accept only answers grounded in the pictures.

The pictures are indexed by captions that the model writes. Run with ``python examples/llama_index_rag.py``.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.prompts import RichPromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import ImageNode, QueryBundle

from llama_index.llms.saliency_guard import GroundedQueryEngine, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

PICTURES = Path(__file__).parent / "pictures"
SIZE = 512
DESCRIBE = "Describe the image in detail."

# Only the pictures and the question: LlamaIndex's default template is for models that can follow long instructions.
TEMPLATE = RichPromptTemplate(
    """{% chat role="user" %}{% for message in context_messages %}{% for block in message.blocks %}
{% if block.block_type == 'image' %}{{ block.inline_url() | image }}{% endif %}
{% endfor %}{% endfor %}{{ query_str }}{% endchat %}"""
)


class WordCounts(BaseEmbedding):
    """Bag-of-words embeddings: enough for captions; put a real embedding model in its place."""

    def _get_text_embedding(self, text: str) -> list[float]:
        counts = [0.0] * SIZE
        for word in re.findall(r"[a-z]{3,}", text.lower()):
            counts[zlib.crc32(word.encode()) % SIZE] += 1.0
        length = math.sqrt(sum(count * count for count in counts)) or 1.0
        return [count / length for count in counts]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def index(folder: Path, llm: SaliencyGuardedLVLM) -> VectorStoreIndex:
    """An index of the pictures, by their captions."""
    nodes = [
        # A node without text would not be indexed: the caption is for retrieval, the model only sees the picture.
        ImageNode(id_=path.name, image_path=str(path), text=llm.complete(DESCRIBE, image_documents=[path]).text)
        for path in sorted(folder.glob("*.png"))
    ]
    return VectorStoreIndex(nodes, embed_model=WordCounts())


def engine(pictures: VectorStoreIndex, llm: SaliencyGuardedLVLM) -> GroundedQueryEngine:
    """A query engine that answers from the best picture, with a fallback if no answer is grounded."""
    inner = RetrieverQueryEngine.from_args(
        pictures.as_retriever(similarity_top_k=1),
        llm=llm,
        multimodal=True,
        chat_content_qa_template=TEMPLATE,
    )
    policy = GuardPolicy(
        min_grounding=0.5, on_low="fallback", max_retries=2, fallback=lambda *_: "The pictures do not say."
    )
    return GroundedQueryEngine(inner, policy, seed=0)


def main() -> None:
    """Index the folder and ask three questions."""
    llm = SaliencyGuardedLVLM(context_window=16_384)  # LlamaIndex counts a picture as 2,125 tokens.
    guarded = engine(index(PICTURES, llm), llm)
    for thing in ("dog", "umbrella", "bird"):
        # The text for retrieval differs from the question, and the answer is scored as an answer to the question.
        query = QueryBundle(DESCRIBE, custom_embedding_strs=[f"a picture of a {thing}"])
        response = guarded.query(query)
        report = (response.metadata or {})["grounding"]
        cited = ", ".join(sorted({citation["node"] for citation in report["citations"]})) or "nothing"
        score = "no number" if report["score"] is None else f"{report['score']:.2f}"
        print(f"{thing}: {response}\n  rests on {cited} ({report['decision']}, {score})")


if __name__ == "__main__":
    main()
