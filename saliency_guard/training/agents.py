"""Prompts of chat engines and agents: follow-ups said so that they stand alone; thought, action and observation."""

from __future__ import annotations

import json
import random

from saliency_guard.scenes import documents
from saliency_guard.scenes.language import Exchange
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.statements import PLACES
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.scenes.words import ATTRIBUTES, THINGS, pick, preamble, value
from saliency_guard.training import calls, single
from saliency_guard.training.frames import noise, start
from saliency_guard.training.sheets import ASSISTANT, END, IMAGE, Branch, Sheet, sheet


def _follow_up(rng: random.Random) -> tuple[Exchange, str, str]:
    """An exchange, a follow-up question, and the question that it means."""
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
    return sheet(f"{start(rng)}{noise(rng, 0.3, 3)}{order}", branches)


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
