"""A tokenizer with more tokens: the old ones keep their ids, new ones are put together from them.

Texts of the second kind (frames, forms, tools) are long: with the first tokenizer a prompt of an agent has more
tokens than the model has positions.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training.mixture import part
from saliency_guard.training.sheets import END, IMAGE

VOCABULARY_SIZE = 2048
_RARE = 8
_WORDS = """
about above according action add after again agent all also always analyze and another any api application are
argument arguments article as ask assistant at available back based be because been before below best better
between both bottom but by call called can cannot case change chat check choice choose class code color come
command complete concise consider contain contains content context continue conversation correct could create
current data date day default define description designed detail detailed details did different directly do
document documents does done down each either else empty end engine ensure error etc even every example execute
existing expert explain extra extract fact facts false few field fields file final find first follow following
for form format found from full function general generate get give given go good great had has have he helpful
her here high his history how however human id if image images important in include including index info
information input instead instruction instructions integer into is it its item items json just keep key keys
keyword knowledge known label language large last least left less let letter level like limit line list long look
made make many markdown may mean message messages metadata might model more most must name need never new next no
none not note nothing now null number object objects observation of on one only open or order original other our
out output over own page paper parameter parameters part passage path people person picture pictures piece pieces
place please point possible prior properties property provide provided query question questions quote read reason
reference refine relevant repeat reply request required respond response result results retrieved return returns
right role rule rules same say schema search second section see select sentence sentences set short should show
shown simple since single small so some source sources specific standalone start state statement step steps still
string structured such sum summarize summary support sure system table take talk task tasks team tell text than
that the their them then there these they thing think this those thought three through time title to together
tokens too tool tools top topic total true truthfully try two type under unit until up use used useful user using
valid value values variable variety various very view want was way we web well were what when where whether which
while who whole why will with within without word words work world would write wrong year yes you your yourself
""".split()  # noqa: SIM905 - a list of strings would fill pages


def corpus(sheets: int) -> Iterator[str]:
    """Texts of a number of training sheets, and common words as written inside and at the start of sentences."""
    for number in range(sheets):
        rng = random.Random(f"{number} corpus")
        kind, _ = part(rng)
        count = kind.pictures[rng.randrange(len(kind.pictures))]
        made = kind.make([sample_scene(rng.getrandbits(30)) for _ in range(count)], rng)
        yield made.prefix.replace(IMAGE, "").replace(END, "").removeprefix("<s>")
        for branch in made.branches:
            yield branch.prompt.replace(END, "")
            yield branch.answer
    for _ in range(40):
        yield " ".join(_WORDS)
        yield "\n".join(word.capitalize() for word in _WORDS)


def grown(
    ancestor: PreTrainedTokenizerFast, texts: Iterable[str], size: int = VOCABULARY_SIZE
) -> PreTrainedTokenizerFast:
    """The ancestor with new tokens, the most frequent pairs of the texts first; digits stay single."""
    state = json.loads(ancestor.backend_tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    merges: list[list[str]] = [list(pair) for pair in state["model"]["merges"]]
    spell = ancestor.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    counts = Counter(word for text in texts for word, _ in spell(text))
    words = [
        ([token.value for token in ancestor.backend_tokenizer.model.tokenize(word)], count)
        for word, count in sorted(counts.items())
        if count >= _RARE
    ]
    while len(vocabulary) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for tokens, count in words:
            for pair in pairwise(tokens):
                pairs[pair] += count
        allowed = [pair for pair in pairs if not any(sign.isdigit() for sign in "".join(pair))]
        if not allowed:
            break
        best = max(allowed, key=lambda pair: (pairs[pair], pair))
        merges.append(list(best))
        vocabulary.setdefault("".join(best), len(vocabulary))
        words = [(_joined(tokens, best), count) for tokens, count in words]
        words = [(tokens, count) for tokens, count in words if len(tokens) > 1]
    state["model"]["merges"] = merges
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token=ancestor.bos_token,
        eos_token=ancestor.eos_token,
        pad_token=ancestor.pad_token,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
    )


def _joined(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    if pair[0] not in tokens:
        return tokens
    made: list[str] = []
    for token in tokens:
        if made and (made[-1], token) == pair:
            made[-1] += token
        else:
            made.append(token)
    return made


def grown_embeddings(old: Tensor, ancestor: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> Tensor:
    """Embeddings for the new tokenizer: the old ones; a new token has the mean of those it is put together of."""
    fresh = torch.zeros(len(new), old.shape[1], dtype=old.dtype)
    fresh[: len(old)] = old
    names = {index: token for token, index in new.get_vocab().items()}
    for index in range(len(old), len(new)):
        parts = [token.id for token in ancestor.backend_tokenizer.model.tokenize(names[index])]
        fresh[index] = old[parts].mean(0)
    return fresh
