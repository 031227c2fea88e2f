"""Prompts around questions, built like those that chains put there: context, sources, refining, condensing, reacting.

Every frame is put together from parts in many wordings, so that an unseen wording is read for its structure.
The prompts of LangChain and LlamaIndex themselves are for evaluation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from saliency_guard.scenes import documents, language
from saliency_guard.scenes.documents import Fact
from saliency_guard.scenes.language import CANNOT_TELL, Exchange
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.scenes.words import coined, pick, preamble
from saliency_guard.training import single
from saliency_guard.training.sheets import ASSISTANT, IMAGE, Branch, Sheet, sheet

_HEADS = (
    "The context is given below.",
    "Here is some context.",
    "Below is information about the context.",
    "Context from several sources:",
    "The following documents were found.",
    "These pieces of context belong to the question.",
    "Context:",
    "Information:",
    "You get some information first.",
    "Read the documents below.",
    "You are an assistant that answers questions. Use the pieces of retrieved context that follow.",
    "Here are the relevant documents:",
    "",
)
_LINES = ("-" * 21, "-" * 12, "-" * 6, "=" * 10, "#" * 8, "---", "***", "```", '"""', "")
_ORDERS = (
    "Answer the query with this information and without prior knowledge.",
    "With the context and not what you knew before, answer the question.",
    "Now answer the question.",
    "Use only the context to answer.",
    "If you do not know the answer, say so.",
    "Answer from the documents above. Keep the answer concise.",
    "Given these sources, answer the following query.",
    "Based on the documents above, give a detailed answer to the question of the user.",
    "",
)
_ASKED = ("Query:", "Question:", "The question:", "User question:", "Q:", "The query is:", "Here is the question:", "")
_ANSWERS = ("\nAnswer: ", "\nAnswer:", "\nA:", "\nYour answer:", "\nResponse: ", "\nHelpful answer:", "", "")
UNSEEN_HEADS = ("What follows is the material to answer from.",)
UNSEEN_ORDERS = ("Take your answer from the material, and from nothing else.",)
"""For evaluation alone."""


def noise(rng: random.Random, chance: float, longest: int) -> str:
    """Sometimes a preamble, rarely a long one."""
    if rng.random() >= chance:
        return ""
    count = rng.randint(1, 3) if rng.random() < 0.7 else rng.randint(3, longest)
    return preamble(rng, count) + pick(rng, ("\n", "\n", "\n\n"))


def start(rng: random.Random, system_chance: float = 0.3) -> str:
    """How a chat begins, sometimes with something that the system says."""
    system = noise(rng, system_chance, 6).rstrip("\n")
    return f"<s>{system}\nUSER: " if system else "<s>USER: "


def _context(rng: random.Random, texts: Sequence[str]) -> str:
    style = rng.randrange(5)
    if style == 0:
        return "\n\n".join(texts)
    if style == 1:
        return "\n\n".join(f"Source {k}:\n{text}" for k, text in enumerate(texts, start=1))
    if style == 2:
        return "\n".join(f"[{k}] {text}" for k, text in enumerate(texts, start=1))
    if style == 3:
        return "\n\n".join(f"file_path: {coined(rng)}.txt\n\n{text}" for text in texts)
    return "\n".join(texts)


def _questions(scene: Scene | None, known: Sequence[Fact], rng: random.Random, count: int) -> list[Exchange]:
    """Questions about the picture, about the documents, and about neither."""
    made: list[Exchange] = []
    while len(made) < count:
        chance = rng.random()
        if scene is None and chance > 0.95:
            name = CLASSES[rng.randrange(len(CLASSES))]
            made.append(Exchange(language.presence_question(name), CANNOT_TELL))
            continue
        if scene is not None and (chance < 0.45 or not known):
            made.append(single.exchange(scene, rng))
        elif known and chance < 0.85:
            each = known[rng.randrange(len(known))]
            made.append(Exchange(documents.request(rng, each.question), each.answer))
        else:
            asked_for = documents.fact(rng)
            if all(asked_for.question != each.question and asked_for.topic != each.topic for each in known):
                made.append(Exchange(documents.request(rng, asked_for.question), CANNOT_TELL))
    return made


def retrieval(scene: Scene | None, rng: random.Random) -> Sheet:
    """A question after, or before, the context of its answer."""
    known = documents.facts(rng, rng.randint(1, 5)) if scene is None or rng.random() < 0.7 else []
    texts = [documents.document(rng, facts) for facts in documents.split(rng, known, rng.randint(1, 3)) if facts]
    line = pick(rng, _LINES)
    line = f"\n{line}\n" if line else "\n"
    picture = f"{IMAGE}\n" if scene is not None else ""
    inside = rng.random() < 0.4  # The picture is one of the documents.
    body = f"{picture}{_context(rng, texts)}" if inside else _context(rng, texts)
    if inside and rng.random() < 0.5:
        body = f"{_context(rng, texts)}\n{picture}"
    made = _questions(scene, known, rng, 7)
    before = start(rng) + ("" if inside else picture) + noise(rng, 0.25, 14)
    if rng.random() < 0.7:
        prefix = f"{before}{pick(rng, _HEADS)}{line}{body}{line}{noise(rng, 0.15, 4)}{pick(rng, _ORDERS)}"
        word, end = pick(rng, _ASKED), pick(rng, _ANSWERS)
        branches = [
            Branch(
                f"\n{word} {each.question}{end}\n{ASSISTANT}" if word else f"\n{each.question}{end}\n{ASSISTANT}",
                each.answer,
            )
            for each in made
        ]
        return sheet(prefix.rstrip(), branches)
    word, end = pick(rng, _ASKED[:5]), pick(rng, _ANSWERS)
    order = pick(rng, (*_ORDERS, *_HEADS))
    branches = [
        Branch(
            f"\n{word} {each.question} \n{pick(rng, _HEADS[6:8])} {_context(rng, texts)}{end}\n{ASSISTANT}", each.answer
        )
        for each in made[:3]
    ]
    return sheet(f"{start(rng)}{picture}{order}".rstrip() or "<s>USER:", branches)


def plain_documents(scene: Scene | None, rng: random.Random) -> Sheet:
    """Documents and a question, and no word between them."""
    known = documents.facts(rng, rng.randint(1, 6))
    texts = [documents.document(rng, facts) for facts in documents.split(rng, known, rng.randint(1, 4)) if facts]
    pieces = texts if scene is None else [*texts, f"{IMAGE}\n"]
    rng.shuffle(pieces)
    glue = pick(rng, ("", "\n", "\n\n", " "))
    body = "".join(piece if piece.startswith(IMAGE) else piece + (glue or "\n") for piece in pieces)
    branches = [Branch(f"\n{each.question}\n{ASSISTANT}", each.answer) for each in _questions(scene, known, rng, 9)]
    return sheet(f"{start(rng, 0.2)}{body}".rstrip(), branches)


def citations(rng: random.Random) -> Sheet:
    """Numbered sources, and answers that name theirs."""
    known = documents.facts(rng, rng.randint(2, 5))
    count = min(len(known), rng.randint(2, 4))
    shares = documents.split(rng, known, count)
    example = documents.facts(rng, 2)
    lead = rng.choice(
        (
            "Answer from the sources alone. Cite the sources by their numbers.",
            "Give an answer based on the sources. Name the number of each source that you use, like [1].",
            "Every answer has to cite at least one source.",
        )
    )
    shown = ""
    if rng.random() < 0.5:
        shown = (
            f"\nFor example:\nSource 1:\n{example[0].sentence}\nSource 2:\n{example[1].sentence}\n"
            f"Query: {example[1].question}\nAnswer: {example[1].answer.rstrip('.')} [2].\nNow it is your turn."
        )
    line = pick(rng, _LINES)
    texts = "\n\n".join(f"Source {k}:\n{documents.document(rng, facts)}" for k, facts in enumerate(shares, start=1))
    prefix = f"{start(rng)}{noise(rng, 0.2, 5)}{lead}{shown} Below are numbered sources.\n{line}\n{texts}\n{line}"
    word, end = pick(rng, _ASKED[:5]), pick(rng, _ANSWERS[:4])
    branches = []
    for each in known[:4]:
        number = next(k for k, facts in enumerate(shares, start=1) if each in facts)
        branches.append(Branch(f"\n{word} {each.question}{end}\n{ASSISTANT}", f"{each.answer.rstrip('.')} [{number}]."))
    other = documents.fact(rng)
    if all(other.topic != each.topic for each in known):
        branches.append(Branch(f"\n{word} {other.question}{end}\n{ASSISTANT}", CANNOT_TELL))
    return sheet(prefix.rstrip(), branches)


def refining(scene: Scene | None, rng: random.Random) -> Sheet:
    """An answer that is there already, and new context that makes it better or does not."""
    known = documents.facts(rng, 4)
    picture = f"{IMAGE}\n" if scene is not None else ""
    words = rng.choice(
        (
            (
                "The query is: {q}",
                "There is an answer already: {a}",
                "Improve the answer if the context below helps.",
                "If it does not help, repeat the answer.",
            ),
            (
                "Original question: {q}",
                "Existing answer: {a}",
                "More context is given below.",
                "Refine the existing answer, or return it as it is.",
            ),
            (
                "Query: {q}",
                "Original answer: {a}",
                "New context:",
                "Rewrite the answer with the new context, or repeat it.",
            ),
        )
    )
    line = pick(rng, _LINES)
    branches = []
    for _ in range(4):
        useful = rng.random() < 0.5
        if scene is not None and rng.random() < 0.5:
            made, context = single.exchange(scene, rng), documents.document(rng, [documents.fact(rng)])
            before = CANNOT_TELL if rng.random() < 0.5 else made.answer
        else:
            each = known[rng.randrange(len(known))]
            made = Exchange(each.question, each.answer)
            rest = [fact for fact in known if fact is not each]
            before = rng.choice((CANNOT_TELL, documents.fact(rng).answer)) if useful else each.answer
            context = documents.document(rng, rng.sample(rest, 1) + ([each] if useful else []))
        lead = [words[0].format(q=made.question), words[1].format(a=before), words[2], line, context, line, words[3]]
        if rng.random() < 0.3:
            lead = [words[3], words[2], context, words[0].format(q=made.question), words[1].format(a=before)]
        end = pick(rng, ("\nRefined answer: ", "\nNew answer: ", "\nBetter answer:", "\nAnswer:"))
        branches.append(Branch("\n" + "\n".join(piece for piece in lead if piece) + f"{end}\n{ASSISTANT}", made.answer))
    return sheet(f"{start(rng)}{picture}{noise(rng, 0.3, 4)}".rstrip() or "<s>USER:", branches)


def summarizing(scene: Scene | None, rng: random.Random) -> Sheet:
    """What texts and pictures say, said again."""
    branches = []
    picture = f"{IMAGE}\n" if scene is not None else ""
    order = pick(
        rng,
        (
            "Write a summary of the following.",
            "Summarize this:",
            "Give a short summary.",
            "Sum up what follows. Keep the key facts.",
        ),
    )
    for _ in range(3):
        known = documents.facts(rng, rng.randint(1, 3))
        said = " ".join(each.sentence for each in known)
        text = documents.document(rng, known)
        answer = f"{single.brief(scene)} {said}" if scene is not None else said
        end = pick(rng, ("\nSUMMARY: ", "\nSummary:", '\nSUMMARY:"""', "", "\nShort summary: "))
        branches.append(Branch(f"\n\n{text}\n\n{end}\n{ASSISTANT}", answer))
    return sheet(f"{start(rng)}{picture}{order}{' ' + preamble(rng, 1) if rng.random() < 0.4 else ''}", branches)
