"""What copying and pickling mean for an object that holds a model."""

from __future__ import annotations

import copy
from typing import Any, NoReturn, Self

from transformers import PreTrainedModel

from saliency_guard.errors import ModelError
from saliency_guard.models.forward import lock_of


class CopiedWithModel:
    """Copies of an object and its model.

    ``copy.copy`` gives the same model once more: prompts read for the original are cached for the copy, too.
    ``copy.deepcopy`` gives an independent one, with a copy of the weights and an empty cache. It cannot be pickled:
    every process loads its own.
    """

    model: PreTrainedModel
    model_id: str

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        with lock_of(self.model):  # Not while it runs: it is patched then.
            vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    def __reduce__(self) -> NoReturn:
        msg = (
            f"{self.model_id} cannot be pickled, since a model does not go from one process to another: load it in "
            "each, with LVLM.load(...) or (once a process) shared_lvlm(...)"
        )
        raise ModelError(msg)
