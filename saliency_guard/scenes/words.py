"""Words for made-up documents, names and preambles: nothing that a picture of this world could show."""

from __future__ import annotations

import random

NAMES = (
    "Anna", "Ben", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Katrin", "Leo", "Maria",
    "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Viktor", "Wanda", "Yusuf", "Zoe", "John", "Mary", "Peter",
)  # fmt: skip
CITIES = (
    "Paris", "Berlin", "London", "Rome", "Madrid", "Vienna", "Oslo", "Lisbon", "Athens", "Prague", "Dublin", "Warsaw",
    "New York", "Boston", "Chicago", "Tokyo", "Cairo", "Lima", "Sydney", "Toronto", "San Diego, CA", "Seattle, WA",
    "Austin, TX", "Los Angeles", "Porto", "Hamburg", "Geneva", "San Jose, CA", "Salt Lake City", "Cape Town",
)  # fmt: skip
THINGS = (
    "lamp", "engine", "report", "invoice", "printer", "ticket", "contract", "machine", "camera", "house", "garden",
    "office", "door", "key", "box", "parcel", "radio", "watch", "table", "server", "battery", "pump", "sensor",
    "project", "order", "room", "bridge", "museum", "hotel", "shop", "letter", "device", "carpet", "bill", "tank",
)  # fmt: skip
ATTRIBUTES = (
    "serial number", "code", "price", "address", "phone number", "order number", "weight", "temperature", "date",
    "deadline", "budget", "version", "model number", "gate", "flight number", "password", "height", "length", "name",
    "owner", "total", "capacity", "speed", "warranty", "invoice number", "room number", "batch number", "status",
    "due date", "customer", "manager", "location", "voltage", "pressure", "title", "author",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "grey", "brown", "purple", "pink", "orange", "silver")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
EVENTS = ("meeting", "concert", "lecture", "party", "match", "exam", "show", "course", "visit", "wedding", "interview")
ROOMS = ("kitchen", "cellar", "hall", "attic", "garage", "library", "office", "lobby", "workshop", "warehouse")

_SUBJECTS = (
    "the system", "a user", "the reader", "the text", "your answer", "the document", "every source", "the company",
    "our team", "the method", "this page", "the work", "a good answer", "the language", "the conversation", "the tool",
    "an assistant", "the program", "the question", "the result", "the number", "a list", "the information",
)  # fmt: skip
_VERBS = (
    "should describe", "must use", "may contain", "does not need", "can include", "will follow", "has to respect",
    "provides", "requires", "explains", "gives", "shows", "mentions", "takes", "keeps", "follows", "supports",
    "returns", "considers", "repeats", "rewrites", "improves", "depends on", "belongs to",
)  # fmt: skip
_OBJECTS = (
    "the following format", "the given context", "prior knowledge", "new information", "the original query",
    "several sources", "each step", "a short sentence", "more details", "the existing answer", "only one tool",
    "a valid input", "the current conversation", "relevant documents", "the same language", "any other text",
    "the user's request", "an example", "all key points", "a summary of the facts", "the response", "these rules",
    "the most important part", "different tasks", "a friendly tone", "useful context", "the final result",
)  # fmt: skip
_TAILS = (
    "", "", "", " if needed", " as well as possible", " before the answer", " in the end", " and nothing more",
    " at any time", " when in doubt", " with care", " for every question", " without an explanation",
)  # fmt: skip

RULES = (
    "You are a helpful assistant.",
    "You are a careful assistant that looks at pictures.",
    "Be brief.",
    "Answer in English.",
    "Do not make anything up.",
    "Keep your answers short and clear.",
    "If you do not know the answer, say that you can not tell.",
    "You answer questions about images and documents.",
    "Think before you answer.",
    "Only use what you are given.",
    "Be polite and precise.",
    "You help people who can not see the picture.",
    "Never guess.",
    "Use at most three sentences.",
    "You work for a museum.",
    "Today is a good day to help.",
)

_SYLLABLES = (
    "ba", "ko", "ri", "ta", "mel", "zu", "vor", "lin", "sa", "dex", "pu", "gra", "ni", "to", "shi", "qua", "fen", "lo",
    "wi", "mar", "je", "cy", "bru", "ox", "han", "pel", "ir", "ul", "eck", "yn",
)  # fmt: skip
_STARTS = (
    *"bcdfghjklmnprstvwyz", "bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gl", "gr", "ph", "pl", "pr", "qu", "sc",
    "sh", "sk", "sl", "sp", "st", "sw", "th", "tr", "tw", "wh", "",
)  # fmt: skip
_MIDDLES = (*"aaaeeeiiooouy", "ai", "ea", "ee", "ie", "oa", "oo", "ou")
_ENDS = (
    "", "", "", "", *"bcdgklmnprstx", "ck", "ct", "ft", "ld", "ll", "lt", "mp", "nd", "ne", "ng", "nt", "pe", "rd",
    "re", "rm", "rn", "rt", "se", "sh", "sk", "ss", "st", "te", "th", "ve", "cy", "ty", "al", "ing", "tion",
)  # fmt: skip


def pick(rng: random.Random, choices: tuple[str, ...]) -> str:
    """One of the choices, at random."""
    return choices[rng.randrange(len(choices))]


def coined(rng: random.Random, syllables: int | None = None) -> str:
    """An invented word: of a few syllables that come often, or spelt like any English word."""
    if rng.random() < 0.5:
        return "".join(pick(rng, _SYLLABLES) for _ in range(syllables or rng.randint(2, 3)))
    return "".join(
        pick(rng, _STARTS) + pick(rng, _MIDDLES) + pick(rng, _ENDS) for _ in range(syllables or rng.randint(1, 2))
    )


def city(rng: random.Random) -> str:
    """A city, known or invented, of one word or two."""
    chance = rng.random()
    if chance < 0.45:
        return pick(rng, CITIES)
    if chance < 0.75:
        return coined(rng).capitalize()
    return f"{pick(rng, ('San', 'New', 'Port', 'Saint', coined(rng).capitalize()))} {coined(rng).capitalize()}"


def value(rng: random.Random) -> str:
    """A number, code, amount, date or name: a value that can only be copied from the prompt."""
    kind = rng.randrange(9)
    if kind <= 1:
        return str(rng.randrange(10 ** rng.randint(1, 6)))
    if kind == 2:
        letters = "ABCDEFGHKLMNPRSTXZ"
        return f"{''.join(rng.choice(letters) for _ in range(rng.randint(1, 3)))}-{rng.randrange(10, 10000)}"
    if kind == 3:
        return f"{rng.randrange(1, 900)} {pick(rng, ('euros', 'dollars', 'pounds', 'degrees', 'meters', 'kilograms'))}"
    if kind == 4:
        return f"{rng.randint(1, 28)} {pick(rng, MONTHS)} {rng.randint(1950, 2030)}"
    if kind == 5:
        return pick(rng, CITIES)
    if kind == 6:
        return f"{pick(rng, NAMES)} {coined(rng).capitalize()}"
    if kind == 7:
        return coined(rng)
    return f"{rng.randrange(100)}.{rng.randrange(10)}"


def sentence(rng: random.Random) -> str:
    """A sentence of a preamble that says nothing about any picture."""
    chance = rng.random()
    if chance < 0.25:
        return pick(rng, RULES)
    subject = pick(rng, _SUBJECTS)
    said = f"{subject} {pick(rng, _VERBS)} {pick(rng, _OBJECTS)}{pick(rng, _TAILS)}"
    return said[0].upper() + said[1:] + pick(rng, (".", ".", ".", ":", "!"))


def preamble(rng: random.Random, sentences: int) -> str:
    """A number of sentences, some of them in lists and under headings."""
    pieces: list[str] = []
    for _ in range(sentences):
        lead = pick(rng, ("", "", "", "", "\n", "\n- ", "\n\n", "\n## ", "\n* "))
        pieces.append((lead or " ") + sentence(rng))
    return "".join(pieces).strip()


def jumble(rng: random.Random, count: int) -> str:
    """Words in random order, so that the next one can only be copied."""
    kinds = (NAMES, CITIES, THINGS, ATTRIBUTES, COLOURS, DAYS, EVENTS, ROOMS, _VERBS, _OBJECTS)
    said = [coined(rng) if rng.random() < 0.2 else pick(rng, kinds[rng.randrange(len(kinds))]) for _ in range(count)]
    if rng.random() < 0.4:
        said = [str(rng.randrange(1000)) if rng.random() < 0.3 else word for word in said]
    return " ".join(said)
