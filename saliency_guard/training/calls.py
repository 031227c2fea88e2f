"""Tools: the one to call and its arguments, and a sentence from what it gives back."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saliency_guard.scenes import documents
from saliency_guard.scenes.language import CANNOT_TELL, Exchange
from saliency_guard.scenes.scene import Scene
from saliency_guard.scenes.vocabulary import CLASSES, plural, singular
from saliency_guard.scenes.words import ATTRIBUTES, NAMES, THINGS, city, coined, pick, preamble, sentence, value
from saliency_guard.training import single
from saliency_guard.training.sheets import ASSISTANT, END, IMAGE, Branch, Sheet, sheet

TOLD = (
    "You may call these tools:\n{tools}\nTo call one, write "
    '<tool_call>{{"name": "...", "arguments": {{...}}}}</tool_call> and nothing else.'
)
"""The description of tools that `saliency_guard.chat.tools` writes; a test compares the two."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        name: its name.
        description: what it does.
        parameters: the types of its arguments by name.
    """

    name: str
    description: str
    parameters: dict[str, str]

    def function(self, rng: random.Random | None = None) -> dict[str, Any]:
        """As LangChain and LlamaIndex tell of it, in one of their orders."""
        titled = rng is not None and rng.random() < 0.3
        properties = {
            key: {**({"title": key.replace("_", " ").title()} if titled else {}), "type": kind}
            for key, kind in self.parameters.items()
        }
        required = list(properties)
        if rng is not None and rng.random() < 0.4:
            parameters = {"type": "object", "properties": properties, "required": required}
        else:
            parameters = {"properties": properties, "required": required, "type": "object"}
        if not properties:
            parameters.pop("required")
        return {"name": self.name, "description": self.description, "parameters": parameters}


@dataclass(frozen=True, slots=True)
class Use:
    """A tool, a request for it, and the arguments of the call."""

    tool: Tool
    question: str
    arguments: dict[str, Any]


LOOKUPS = (
    "weather", "time", "temperature", "population", "forecast", "traffic", "news", "map", "stock price", "capital",
    "humidity", "currency", "phone number", "opening hours", "address", "price",
)  # fmt: skip
UNSEEN_LOOKUPS = ("wind speed", "air quality", "time zone", "postal code")
"""For evaluation alone."""
NOUNS = ("level", "index", "type", "status", "range", "size", "rate", "colour", "age", "limit", "list", "plan")
_CITY_KEYS = ("city", "location", "place", "town", "name", "query")
_VERBS = ("get", "look_up", "find", "fetch", "check")
_LETTERS = "abcnxyzkmpq"


def lookup(rng: random.Random, noun: str | None = None) -> Use:
    """The weather in a city."""
    if noun is None:
        # Mostly new combinations of words: the name has to be read, it cannot be known.
        chance = rng.random()
        first = (
            pick(rng, LOOKUPS) if chance < 0.3 else pick(rng, (*THINGS, *ATTRIBUTES)) if chance < 0.6 else coined(rng)
        )
        second = pick(rng, (*THINGS, *NOUNS)) if rng.random() < 0.5 else coined(rng)
        noun = first if rng.random() < 0.5 else f"{first} {second}"
    place = city(rng)
    key = pick(rng, _CITY_KEYS)
    name = f"{pick(rng, _VERBS)}_{noun.replace(' ', '_')}"
    tool = Tool(
        name, pick(rng, (f"Get the {noun} at a location.", f"Returns the {noun}.", sentence(rng))), {key: "string"}
    )
    question = pick(
        rng,
        (
            f"What is the {noun} in {place}?",
            f"What is the {noun} of {place}?",
            f"Tell me the {noun} in {place}.",
            f"What's the {noun} in {place}?",
            f"How is the {noun} in {place}?",
        ),
    )
    return Use(tool, question, {key: place})


def function(rng: random.Random, name: str | None = None) -> Use:
    """A function that is called by its name, as in code or in words."""
    name = name or rng.choice(
        (f"{coined(rng)}_function", coined(rng), f"{coined(rng)}_{coined(rng)}", f"run_{coined(rng)}", "compute", "f")
    )
    kinds = [
        ("integer", "integer", "string", "number")[rng.randrange(4)] for _ in range(rng.choice((0, 1, 1, 1, 1, 2)))
    ]
    keys = [
        pick(rng, ("_input", "input", "x", "n", "value", "number", "text", "word", coined(rng), rng.choice(_LETTERS)))
        for _ in kinds
    ]
    parameters = dict(zip(keys, kinds, strict=True))
    arguments: dict[str, Any] = {}
    for key, kind in parameters.items():
        if kind == "integer":
            arguments[key] = rng.randrange(10 ** rng.randint(1, 4))
        elif kind == "number":
            arguments[key] = rng.randrange(100) + rng.choice((0.5, 0.25, 0.1))
        else:
            arguments[key] = coined(rng) if rng.random() < 0.6 else f"{coined(rng)} {pick(rng, THINGS)}"
    shown = [json.dumps(each) if rng.random() < 0.7 else str(each) for each in arguments.values()]
    code, words = ", ".join(shown), " and ".join(str(each) for each in arguments.values())
    named = " and ".join(f"{key} {each}" for key, each in arguments.items())
    forms = [
        f"What is the value of {name}({code})?",
        f"What is {name}({code})?",
        f"Call {name}({code}).",
        f"Compute {name}({code}).",
    ]
    if arguments:
        forms += [
            f"Use {name} with {words}.",
            f"Call {name} with {named}.",
            f"Apply {name} to {words}.",
            f"Run {name} on {words}.",
        ]
    question = pick(rng, tuple(forms)) + pick(rng, ("", "", "", " Use the tool.", " Use a tool."))
    described = pick(
        rng, ("Apply a function to an input.", f"The {coined(rng)} function.", sentence(rng), "Calculates a value.")
    )
    return Use(Tool(name, described, parameters), question, arguments)


def arithmetic(rng: random.Random) -> Use:
    """Two numbers out of a question."""
    a, b = rng.randrange(100), rng.randrange(100)
    name, words, forms = rng.choice(
        (
            (
                "add",
                "Adds two numbers.",
                ("What is {a} + {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "What is {a} + {b}"),
            ),
            (
                "multiply",
                "Multiplies two numbers.",
                ("What is {a} times {b}?", "Multiply {a} and {b}.", "What is {a} * {b}?"),
            ),
            ("subtract", "Subtracts b from a.", ("What is {a} - {b}?", "What is {a} minus {b}?")),
            ("divide", "Divides a by b.", ("What is {a} divided by {b}?", "What is {a} / {b}?")),
        )
    )
    first, second = rng.choice((("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")))
    name += pick(rng, ("", "", "_numbers", "er_tool"))
    tool = Tool(name, words, dict.fromkeys((first, second), "integer"))
    return Use(tool, pick(rng, forms).format(a=a, b=b), {first: a, second: b})


def search(rng: random.Random) -> Use:
    """A phrase out of a question."""
    phrase = rng.choice(
        (
            f"{coined(rng)} {pick(rng, THINGS)}",
            pick(rng, THINGS) + "s",
            coined(rng),
            pick(rng, NAMES) + " " + coined(rng).capitalize(),
        )
    )
    key = pick(rng, ("query", "q", "text", "term", "keyword", "input"))
    where = pick(rng, ("web", "wiki", "documents", "database", "internet", "archive"))
    name = pick(rng, (f"search_{where}", "search", f"{where}_search", f"query_{where}"))
    forms = (
        f"Search for {phrase}.",
        f"Search the {where} for {phrase}.",
        f"Look up {phrase}.",
        f"Find something about {phrase}.",
    )
    return Use(Tool(name, f"Search the {where}.", {key: "string"}), pick(rng, forms), {key: phrase})


def message(rng: random.Random) -> Use:
    """A name and a text out of a request."""
    who, text = (
        pick(rng, NAMES),
        rng.choice((coined(rng), f"{coined(rng)} {pick(rng, THINGS)}", "hello", "see you on Monday")),
    )
    name, verb = rng.choice(
        (("send_message", "Send"), ("send_email", "Mail"), ("write_to", "Write"), ("notify", "Send"))
    )
    to, body = rng.choice((("to", "text"), ("recipient", "message"), ("name", "body")))
    tool = Tool(name, "Sends a text to a person.", {to: "string", body: "string"})
    return Use(tool, f"{verb} '{text}' to {who}.", {to: who, body: text})


def pointing(rng: random.Random) -> Use:
    """The name of a thing of the picture out of a request."""
    name = CLASSES[rng.randrange(len(CLASSES))]
    tool, words, forms = rng.choice(
        (
            (
                "count_objects",
                "Counts the objects of a kind.",
                ("Use count_objects for {many}.", "Count the {many} with a tool.", "Use a tool to count the {many}."),
            ),
            (
                "find_object",
                "Finds an object in the image.",
                ("Use find_object for the {one}.", "Find the {one} with the tool.", "Use a tool to find the {one}."),
            ),
            ("zoom_to", "Zooms to an object.", ("Zoom to the {one}.", "Zoom in on the {one}.")),
            (
                "draw_box",
                "Draws a box around an object.",
                ("Draw a box around the {one}.", "Put a box around the {one}."),
            ),
            ("crop", "Cuts an object out of the image.", ("Crop the {one}.", "Cut out the {one}.")),
        )
    )
    key = pick(rng, ("name", "object", "label", "thing"))
    question = pick(rng, forms).format(one=singular(name), many=plural(name))
    return Use(Tool(tool, words, {key: "string"}), question, {key: name})


MAKERS = (lookup, lookup, lookup, function, function, function, arithmetic, search, message, pointing)


def uses(rng: random.Random, count: int) -> list[Use]:
    """Uses of tools whose names differ."""
    made: dict[str, Use] = {}
    while len(made) < count:
        new = MAKERS[rng.randrange(len(MAKERS))](rng)
        made.setdefault(new.tool.name, new)
    return list(made.values())


def call(use: Use) -> str:
    """A call as JSON."""
    return json.dumps({"name": use.tool.name, "arguments": use.arguments})


def tagged(use: Use) -> str:
    """A call as the model writes it when it may choose."""
    return f"<tool_call>{call(use)}</tool_call>"


def told(tools: Sequence[Tool], rng: random.Random | None = None) -> str:
    """What the system says of tools."""
    return TOLD.format(tools="\n".join(json.dumps(tool.function(rng)) for tool in tools))


RESULTS_AS_SENTENCES = (
    "It's sunny.",
    "It is raining.",
    "It is {n} degrees.",
    "There are {n} people.",
    "The message was sent.",
)


def result(rng: random.Random) -> Exchange:
    """The result of a tool (as the question), and the answer in words."""
    chance = rng.random()
    if chance < 0.35:
        said = rng.choice((*RESULTS_AS_SENTENCES, sentence(rng).rstrip(":!") + ".")).format(n=rng.randrange(100))
        said = said.replace("..", ".")
        return Exchange(said, said)
    said = value(rng) if chance < 0.9 else json.dumps({coined(rng): rng.randrange(100)})
    return Exchange(said, f"The result is {said}.")


def choosing(scene: Scene | None, rng: random.Random) -> Sheet:
    """Tools and requests: one calls the right tool, is forced to, or answers from the picture."""
    known = uses(rng, rng.choice((1, 1, 2, 2, 3, 4)))
    tools = [use.tool for use in known]
    rng.shuffle(tools)
    system = told(tools, rng)
    if rng.random() < 0.25:
        system = f"{preamble(rng, rng.randint(1, 3))}\n{system}"
    shown = scene is not None
    prefix = f"<s>{system}\nUSER: {IMAGE if shown else ''}"
    lead = "\n" if shown else " "
    branches: list[Branch] = []
    for use in known[:3]:
        again = _again(use, rng)
        prompt = f"{lead}{again.question}\n{ASSISTANT}"
        if rng.random() < 0.3:  # Constrained decoding leaves out the tag.
            branches.append(Branch(prompt, call(again), silent=((0, len('{"name": "')),)))
        else:
            branches.append(Branch(prompt, tagged(again)))
    if scene is not None:
        for _ in range(2):
            made = single.exchange(scene, rng)
            branches.append(Branch(f"{lead}{made.question}\n{ASSISTANT}", made.answer))
    elif rng.random() < 0.3:
        branches.append(Branch(f"{lead}{documents.fact(rng).question}\n{ASSISTANT}", CANNOT_TELL))
    for use in known[:2]:
        again, given = _again(use, rng), result(rng)
        turn = f"{lead}{again.question}\n{ASSISTANT}{tagged(again)}{END}\n"
        prompt = f"{turn}USER: Result of {use.tool.name}: {given.question}\n{ASSISTANT}"
        branches.append(Branch(prompt, given.answer))
    return sheet(prefix if shown else prefix.rstrip(), branches)


def _again(use: Use, rng: random.Random) -> Use:
    """The same tool, asked for again with other arguments where that can be done by exchanging the values."""
    question, arguments = use.question, dict(use.arguments)
    for key, each in use.arguments.items():
        if isinstance(each, int) and question.count(str(each)) == 1 and rng.random() < 0.5:
            new = rng.randrange(10 ** rng.randint(1, 4))
            question, arguments[key] = question.replace(str(each), str(new)), new
    return Use(use.tool, question, arguments)
