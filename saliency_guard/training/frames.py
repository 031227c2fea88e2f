"""Prompts around questions, built like those that chains put there: context, sources, refining, condensing, reacting.

Every frame is put together from parts in many wordings, so that a wording nobody has seen is read for its structure.
The prompts of LangChain and LlamaIndex themselves are for evaluation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from saliency_guard.scenes import language
from saliency_guard.scenes.language import CANNOT_TELL, Exchange
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import PLACES
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training import calls, documents, single
from saliency_guard.training.documents import Fact
from saliency_guard.training.sheets import ASSISTANT, END, IMAGE, Branch, Sheet, opening, sheet
from saliency_guard.training.words import ATTRIBUTES, THINGS, coined, pick, preamble, sentence, value

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


def _noise(rng: random.Random, chance: float, longest: int) -> str:
    """Sometimes a preamble, rarely a long one."""
    if rng.random() >= chance:
        return ""
    count = rng.randint(1, 3) if rng.random() < 0.7 else rng.randint(3, longest)
    return preamble(rng, count) + pick(rng, ("\n", "\n", "\n\n"))


def _start(rng: random.Random, system_chance: float = 0.3) -> str:
    system = _noise(rng, system_chance, 6).rstrip("\n")
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
    """A question behind, or before, the context it is to be answered from."""
    known = documents.facts(rng, rng.randint(1, 5)) if scene is None or rng.random() < 0.7 else []
    texts = [documents.document(rng, told) for told in documents.split(rng, known, rng.randint(1, 3)) if told]
    line = pick(rng, _LINES)
    line = f"\n{line}\n" if line else "\n"
    picture = f"{IMAGE}\n" if scene is not None else ""
    inside = rng.random() < 0.4  # The picture is one of the documents.
    body = f"{picture}{_context(rng, texts)}" if inside else _context(rng, texts)
    if inside and rng.random() < 0.5:
        body = f"{_context(rng, texts)}\n{picture}"
    made = _questions(scene, known, rng, 7)
    start = _start(rng) + ("" if inside else picture) + _noise(rng, 0.25, 14)
    if rng.random() < 0.7:
        prefix = f"{start}{pick(rng, _HEADS)}{line}{body}{line}{_noise(rng, 0.15, 4)}{pick(rng, _ORDERS)}"
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
    return sheet(f"{_start(rng)}{picture}{order}".rstrip() or "<s>USER:", branches)


def plain_documents(scene: Scene | None, rng: random.Random) -> Sheet:
    """Documents and a question, and no word between them."""
    known = documents.facts(rng, rng.randint(1, 6))
    texts = [documents.document(rng, told) for told in documents.split(rng, known, rng.randint(1, 4)) if told]
    pieces = texts if scene is None else [*texts, f"{IMAGE}\n"]
    rng.shuffle(pieces)
    glue = pick(rng, ("", "\n", "\n\n", " "))
    body = "".join(piece if piece.startswith(IMAGE) else piece + (glue or "\n") for piece in pieces)
    branches = [Branch(f"\n{each.question}\n{ASSISTANT}", each.answer) for each in _questions(scene, known, rng, 9)]
    return sheet(f"{_start(rng, 0.2)}{body}".rstrip(), branches)


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
    texts = "\n\n".join(f"Source {k}:\n{documents.document(rng, told)}" for k, told in enumerate(shares, start=1))
    prefix = f"{_start(rng)}{_noise(rng, 0.2, 5)}{lead}{shown} Below are numbered sources.\n{line}\n{texts}\n{line}"
    word, end = pick(rng, _ASKED[:5]), pick(rng, _ANSWERS[:4])
    branches = []
    for each in known[:4]:
        number = next(k for k, told in enumerate(shares, start=1) if each in told)
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
            rest = [one for one in known if one is not each]
            before = rng.choice((CANNOT_TELL, documents.fact(rng).answer)) if useful else each.answer
            context = documents.document(rng, rng.sample(rest, 1) + ([each] if useful else []))
        lead = [words[0].format(q=made.question), words[1].format(a=before), words[2], line, context, line, words[3]]
        if rng.random() < 0.3:
            lead = [words[3], words[2], context, words[0].format(q=made.question), words[1].format(a=before)]
        end = pick(rng, ("\nRefined answer: ", "\nNew answer: ", "\nBetter answer:", "\nAnswer:"))
        branches.append(Branch("\n" + "\n".join(piece for piece in lead if piece) + f"{end}\n{ASSISTANT}", made.answer))
    return sheet(f"{_start(rng)}{picture}{_noise(rng, 0.3, 4)}".rstrip() or "<s>USER:", branches)


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
    return sheet(f"{_start(rng)}{picture}{order}{' ' + preamble(rng, 1) if rng.random() < 0.4 else ''}", branches)


def _follow_up(rng: random.Random) -> tuple[Exchange, str, str]:
    """An exchange, what is asked after it, and what is meant."""
    kind = rng.randrange(6)
    scene_name, other = (CLASSES[rng.randrange(len(CLASSES))] for _ in range(2))
    a, b = single.forms_of(scene_name), single.forms_of(other)
    if kind == 0:
        question = f"Is there {a['a']} in the image?"
        answer = f"No, there is no {a['one']} in the image."
        return (
            Exchange(question, answer),
            pick(rng, ("And {a}?", "What about {a}?")).format(**b),
            f"Is there {b['a']} in the image?",
        )
    if kind == 1:
        question = f"How many {a['many']} are there in the image?"
        follow = pick(rng, ("And {many}?", "And how many {many}?", "What about {many}?")).format(**b)
        return (
            Exchange(question, f"There are two {a['many']} in the image."),
            follow,
            f"How many {b['many']} are there in the image?",
        )
    if kind == 2:
        follow = pick(rng, ("And the {one}?", "Where is the {one}?", "What about the {one}?")).format(**b)
        return (
            Exchange(f"Where is the {a['one']}?", f"The {a['one']} is on the left."),
            follow,
            f"Where is the {b['one']}?",
        )
    if kind == 3:
        place, there = pick(rng, PLACES), pick(rng, PLACES)
        return (
            Exchange(f"What is {place}?", f"There is nothing {place}."),
            pick(rng, (f"And {there}?", f"What about {there[3:]}?")),
            f"What is {there}?",
        )
    first, second = documents.facts(rng, 2)
    if kind == 4:
        return Exchange(first.question, first.answer), second.question, second.question
    attribute, thing, more = pick(rng, ATTRIBUTES), pick(rng, THINGS), pick(rng, THINGS)
    said = Exchange(f"What is the {attribute} of the {thing}?", f"The {attribute} of the {thing} is {value(rng)}.")
    return (
        said,
        pick(rng, (f"And of the {more}?", f"And the {more}?", f"What about the {more}?")),
        f"What is the {attribute} of the {more}?",
    )


def condensing(rng: random.Random) -> Sheet:
    """A follow-up said so that it stands alone."""
    order = rng.choice(
        (
            "Below is a conversation and a follow up message. Rewrite the message as a question that stands alone.",
            "Rephrase the last question so that it can be understood without the conversation.",
            "Given a chat and a follow up question, write the standalone question.",
            "Make a standalone question of the follow up input.",
        )
    )
    speakers = rng.choice((("user", "assistant"), ("Human", "Assistant"), ("Human", "AI"), ("User", "Assistant")))
    labels = rng.choice(
        (
            ("Chat history:", "Follow up:", "Standalone question:"),
            ("<Conversation>", "<Follow up>", "<Standalone question>"),
            ("Conversation:", "Follow up input:", "Standalone question: "),
            ("History", "Last message", "New question"),
        )
    )
    branches = []
    for _ in range(4):
        said, follow, meant = _follow_up(rng)
        turns = [said]
        if rng.random() < 0.4:
            turns.insert(0, _follow_up(rng)[0])
        lines = "\n".join(f"{speakers[0]}: {each.question}\n{speakers[1]}: {each.answer}" for each in turns)
        branches.append(Branch(f"\n{labels[0]}\n{lines}\n\n{labels[1]} {follow}\n\n{labels[2]}\n{ASSISTANT}", meant))
    return sheet(f"{_start(rng)}{_noise(rng, 0.3, 3)}{order}", branches)


ACTION = "Thought: I need to use a tool to help me answer the question.\nAction: {name}\nAction Input: {arguments}"
ANSWER = "Thought: I can answer without using any more tools.\nAnswer: {answer}"


def reacting(scene: Scene | None, rng: random.Random) -> Sheet:
    """Thought, action and observation in plain words, as agents without tool calling use them."""
    known = calls.uses(rng, rng.choice((1, 2, 2, 3)))
    described = []
    for use in known:
        schema = json.dumps(use.tool.function(rng)["parameters"])
        described.append(
            rng.choice(
                (
                    f"> Tool Name: {use.tool.name}\nTool Description: {use.tool.description}\nTool Args: {schema}\n",
                    f"{use.tool.name}: {use.tool.description} Args: {schema}",
                    f"- {use.tool.name}{tuple(use.tool.parameters)}: {use.tool.description}".replace("'", ""),
                )
            )
        )
    names = ", ".join(use.tool.name for use in known)
    middle = (
        f"\n\n## {pick(rng, ('Output', 'Format', 'Output Format'))}\n\n{preamble(rng, rng.randint(0, 3))}\n```\n"
        f"Thought: {pick(rng, ('what you think', 'I need a tool', 'your reasoning'))}\n"
        f"Action: {pick(rng, ('the tool', 'tool name'))} (one of {names})\n"
        "Action Input: the input of the tool, as JSON\n```\n\n"
        f"{preamble(rng, rng.randint(0, 4))}\n```\nObservation: what the tool says\n```\n\n"
        f"{preamble(rng, rng.randint(0, 3))}"
        "\n```\nThought: I can answer without using any more tools.\nAnswer: your answer\n```\n\n"
        f"{preamble(rng, rng.randint(0, 3))}"
    )
    lead = preamble(rng, rng.randint(1, 4))
    system = f"{lead}\n\n## Tools\n\n{preamble(rng, rng.randint(0, 3))}\n" + "\n".join(described) + middle
    shown = scene is not None
    prefix = f"<s>{system.rstrip()}\nUSER: {IMAGE if shown else ''}"
    lead = "\n" if shown else " "
    branches = []
    for use in known[:3]:
        done = ACTION.format(name=use.tool.name, arguments=json.dumps(use.arguments))
        branches.append(Branch(f"{lead}{use.question}\n{ASSISTANT}", done))
    use, given = known[0], calls.result(rng)
    done = ACTION.format(name=use.tool.name, arguments=json.dumps(use.arguments))
    turns = f"{lead}{use.question}\n{ASSISTANT}{done}{END}\nUSER: Observation: {given.question}\n{ASSISTANT}"
    branches.append(Branch(turns, ANSWER.format(answer=given.answer)))
    if scene is not None:
        for _ in range(2):
            made = single.exchange(scene, rng)
            branches.append(Branch(f"{lead}{made.question}\n{ASSISTANT}", ANSWER.format(answer=made.answer)))
    return sheet(prefix if shown else prefix.rstrip(), branches)


REPEATED = (
    "Repeat: {text}",
    "Repeat this text: {text}",
    "Say it again: {text}",
    "Write this down: {text}",
    "Copy the text below.\n{text}",
    "{text}\nWhat does the text say?",
    "{text}\nRepeat what I said.",
    "The user says: {text} What does the user say?",
)


def repeating(rng: random.Random) -> Sheet:
    """Texts to be repeated: nothing else teaches so fast to find again what stands in the prompt."""
    branches = []
    for _ in range(5):
        pieces = [
            rng.choice((documents.fact(rng).sentence, sentence(rng), f"{coined(rng).capitalize()} {value(rng)}."))
        ]
        while rng.random() < 0.45:
            pieces.append(rng.choice((documents.fact(rng).sentence, f"{coined(rng)} {coined(rng)}: {value(rng)}.")))
        text = " ".join(pieces)
        branches.append(Branch(f" {pick(rng, REPEATED).format(text=text)}\n{ASSISTANT}", text))
    return sheet(_start(rng, 0.1).rstrip(), branches)


def long_preamble(scene: Scene, rng: random.Random) -> Sheet:
    """A picture behind, or before, a great deal of text that has nothing to do with it."""
    text = preamble(rng, rng.randint(8, 40))
    if rng.random() < 0.5:
        return sheet(f"<s>{text}\nUSER: {IMAGE}\n", single.about(scene, rng)[:6])
    branches = [
        Branch(f"\n{each.prompt}", each.answer, each.silent, each.short) for each in single.about(scene, rng)[:6]
    ]
    return sheet(f"{opening()}{text}", branches)
