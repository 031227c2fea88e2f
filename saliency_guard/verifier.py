"""Asks a model about claims, one by one, on the pictures of a prompt that it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.pictures import PictureMemo
from saliency_guard.chat.template import PreparedPrompt, PromptReader
from saliency_guard.errors import ContextLengthError
from saliency_guard.models.prompt_batch import next_logits
from saliency_guard.models.session import Session
from saliency_guard.signals.verification import Verbalizer, VerifyConfig, document_messages, verification_messages


@dataclass(frozen=True, slots=True)
class Verified:
    """What a model says of a statement.

    Attributes:
        probability: P(yes), of yes and no alone; None where it says neither.
        picture: index of the picture it was asked about; None where it was asked about all there is, or a document.
        document: name of the text document it was asked about.
    """

    probability: float | None
    picture: int | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verifier:
    """Verifies statements with one model.

    Attributes:
        reader: of the model's prompts.
        config: how it is asked.
    """

    reader: PromptReader
    config: VerifyConfig

    def verify(
        self,
        conversation: Conversation,
        session: Session | None,
        statements: Sequence[tuple[str, int | None]],
        sentences: Sequence[str] = (),
    ) -> list[Verified]:
        """P(yes) of statements, each asked about on its own, without an answer before it.

        Of several pictures a statement is asked about with the one it names, or with each of them in turn: then the one
        that speaks most for it counts. Text documents are asked in the same way, each by itself, about the sentence
        that a statement was taken from.

        Args:
            conversation: what the statements are about.
            session: its prompt, read by the model: its pictures are not read again; None where it was not read.
            statements: sentences, each with the index of the picture it names, or None.
            sentences: that documents are asked about, one for each of the statements; none are the statements.
        """
        pictures = len(conversation.images)
        if not statements or not (pictures or conversation.documents):
            return [Verified(None)] * len(statements)
        tokenizer, config = self.reader.tokenizer, self.config
        verbalizer = self.reader.remembered(f"verbalizer {config}", lambda: Verbalizer.of(tokenizer, config))
        if pictures <= 1 and not conversation.documents:
            values = self._ask(conversation, session, [text for text, _ in statements], None, verbalizer)
            return [Verified(value, 0) for value in values]
        best = [Verified(None)] * len(statements)
        sentences = list(sentences) or [text for text, _ in statements]
        sources: list[tuple[list[int], list[str], int | None, str | None]] = []
        for picture in range(pictures):
            chosen = [index for index, (_, named) in enumerate(statements) if named is None or named == picture]
            sources.append((chosen, [statements[index][0] for index in chosen], picture, None))
        sources += [(list(range(len(statements))), sentences, None, name) for name in conversation.documents]
        for chosen, texts, shown, document in sources:
            values = self._ask(conversation, None, texts, shown, verbalizer, document=document)
            for index, value in zip(chosen, values, strict=True):
                known = best[index].probability
                if value is not None and (known is None or value > known):
                    best[index] = Verified(value, shown, document)
        return best

    def _ask(
        self,
        conversation: Conversation,
        session: Session | None,
        texts: Sequence[str],
        picture: int | None,
        verbalizer: Verbalizer,
        *,
        document: str | None = None,
    ) -> list[float | None]:
        if not texts:
            return []
        prompts: list[PreparedPrompt | None] = []
        memo = PictureMemo()
        reader = self.reader if document is None else self.reader.without_pictures()
        for text in texts:
            question = self.config.put(text)
            if document is None:
                messages = verification_messages(conversation, question, picture)
            else:
                messages = document_messages(conversation, question, document)
            prompt = reader.prepare(messages, memo=memo)
            prompts.append(prompt if self._fits(prompt) else None)
        fitting = [prompt for prompt in prompts if prompt is not None]
        if not fitting:
            return [None] * len(texts)
        base = session
        if base is None or base.shared_length(fitting[0].inputs, fitting[0].layout) is None:
            model = self.reader.model
            base = Session(model, fitting[0].inputs, layout=fitting[0].layout)
        pairs = [(prompt.inputs, prompt.layout) for prompt in fitting]
        logits = iter(next_logits(base, pairs, batch_size=self.config.batch_size))
        return [None if prompt is None else verbalizer.probability(next(logits)) for prompt in prompts]

    def _fits(self, prompt: PreparedPrompt) -> bool:
        """Whether there is room for the prompt and its answer; a longer one is not verified."""
        try:
            self.reader.require_room(prompt.length, 1)
        except ContextLengthError:
            return False
        return True
