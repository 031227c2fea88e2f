"""Multimodal RAG over a folder of pictures: retrieve, answer, and cite the picture that each claim rests on.

The pictures are indexed by captions that the model writes. Run with ``python examples/langchain_rag.py``.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_saliency_guard import CitedAnswer, RetrievalGuard, SaliencyGuardedLVLM
from saliency_guard import GuardPolicy

PICTURES = Path(__file__).parent / "pictures"
SIZE = 512


class WordCounts(Embeddings):
    """Bag-of-words embeddings: enough for captions; put a real embedding model in its place."""

    def embed_query(self, text: str) -> list[float]:
        """Counts of hashed words, normalised to length 1."""
        counts = [0.0] * SIZE
        for word in re.findall(r"[a-z]{3,}", text.lower()):
            counts[zlib.crc32(word.encode()) % SIZE] += 1.0
        length = math.sqrt(sum(count * count for count in counts)) or 1.0
        return [count / length for count in counts]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embedding of each text, as for queries."""
        return [self.embed_query(text) for text in texts]


def index(folder: Path, model: SaliencyGuardedLVLM) -> InMemoryVectorStore:
    """A vector store of the pictures, by their captions."""
    paths = sorted(folder.glob("*.png"))
    question = {"type": "text", "text": "Describe the image in detail."}
    captions = model.batch([[HumanMessage([{"type": "image", "path": str(path)}, question])] for path in paths])
    store = InMemoryVectorStore(WordCounts())
    for path, caption in zip(paths, captions, strict=True):
        store.add_documents([Document(caption.text, id=path.name, metadata={"picture": str(path)})])
    return store


def answer(store: InMemoryVectorStore, query: str, question: str) -> CitedAnswer:
    """Retrieve two pictures, answer from the best one, and cite from both."""
    captions = store.similarity_search(query, k=2)
    pictures = [Document("", id=caption.id, metadata={"image": caption.metadata["picture"]}) for caption in captions]
    best = RetrievalGuard(GuardPolicy(min_grounding=0.5)).invoke({"question": question, "documents": pictures[:1]})
    # The other picture may show the same: find out which of the two each claim rests on.
    return RetrievalGuard().invoke({"question": question, "documents": pictures, "answer": best.message})


def main() -> None:
    """Index the folder and ask three questions."""
    store = index(PICTURES, SaliencyGuardedLVLM())
    for thing in ("dog", "umbrella", "bird"):
        cited = answer(store, f"a picture of a {thing}", "Describe the image in detail.")
        claims: dict[str, list[str]] = {}
        for citation in cited.citations:
            claims.setdefault(citation.id, []).append(citation.text)
        sources = "; ".join(f"{name} for {', '.join(texts)}" for name, texts in claims.items()) or "nothing"
        print(f"{thing}: {cited.message.text}\n  rests on {sources} ({'accepted' if cited.accepted else 'flagged'})")


if __name__ == "__main__":
    main()
