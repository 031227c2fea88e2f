from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from saliency_guard.embedded.architecture import CONTEXT_LENGTH
from saliency_guard.scenes import language
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training.growth import corpus, grown, grown_embeddings
from saliency_guard.training.tokenizer import train_tokenizer

# One process for all: what they share is made once.
pytestmark = pytest.mark.xdist_group("growth")


@pytest.fixture(scope="module")
def ancestor() -> PreTrainedTokenizerFast:
    return train_tokenizer()


@pytest.fixture(scope="module")
def larger(ancestor: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return grown(ancestor, corpus(250), 1500)


def test_old_tokens_keep_their_ids(ancestor: PreTrainedTokenizerFast, larger: PreTrainedTokenizerFast) -> None:
    old, new = ancestor.get_vocab(), larger.get_vocab()
    assert len(new) == 1500
    assert {token: new[token] for token in old} == old
    assert sorted(new.values()) == list(range(1500))
    assert (larger.bos_token, larger.eos_token, larger.pad_token) == ("<s>", "</s>", "<pad>")
    assert larger.convert_tokens_to_ids("<image>") == old["<image>"]


def test_what_was_said_before_is_still_cut_into_the_same_tokens(
    ancestor: PreTrainedTokenizerFast, larger: PreTrainedTokenizerFast
) -> None:
    import random

    lines = [language.caption(sample_scene(seed), random.Random(seed)) for seed in range(60)]
    same = [ancestor.encode(line) == larger.encode(line) for line in lines]
    assert sum(same) >= 55
    assert all(larger.decode(larger.encode(line)) == line for line in [*lines, "Zürich: 12.5 °C 你好"])


def test_digits_stay_single_and_long_prompts_get_shorter(
    ancestor: PreTrainedTokenizerFast, larger: PreTrainedTokenizerFast
) -> None:
    assert larger.convert_ids_to_tokens(larger.encode("1234")) == ["1", "2", "3", "4"]
    text = next(line for line in corpus(60) if "tool_call" in line)
    assert len(larger.encode(text)) < 0.75 * len(ancestor.encode(text))


def test_a_new_token_begins_as_the_mean_of_its_parts(
    ancestor: PreTrainedTokenizerFast, larger: PreTrainedTokenizerFast
) -> None:
    old = torch.randn(len(ancestor), 6)
    new = grown_embeddings(old, ancestor, larger)
    assert new.shape == (len(larger), 6)
    torch.testing.assert_close(new[: len(old)], old)
    token = larger.encode("tool_call")[0]
    name = larger.convert_ids_to_tokens(token)
    parts = [part.id for part in ancestor.backend_tokenizer.model.tokenize(name)]
    assert token >= len(old)
    torch.testing.assert_close(new[token], old[parts].mean(0))


def test_an_agents_own_prompt_fits_the_context(larger: PreTrainedTokenizerFast) -> None:
    formatter = pytest.importorskip("llama_index.core.agent.react.formatter")
    tools = pytest.importorskip("llama_index.core.tools")

    def look_up(query: str) -> str:
        """Looks a query up in the documents."""
        return query

    prompt = formatter.ReActChatFormatter().format([tools.FunctionTool.from_defaults(look_up)], chat_history=[])
    length = len(larger.encode(str(prompt[0].content)))
    assert length < CONTEXT_LENGTH - 64 - 500, length
