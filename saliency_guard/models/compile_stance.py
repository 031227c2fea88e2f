"""Running compiled models as they are written: torch's compile stance is one switch for the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from transformers import PreTrainedModel

from saliency_guard.models.fork_safety import ForkSafeLock
from saliency_guard.models.layers import anatomy

_LOCK = ForkSafeLock("setting how compiled models run")
_stance = ExitStack()
_users = 0


@contextmanager
def uncompiled(model: PreTrainedModel) -> Iterator[None]:
    """Run a model that its owner has compiled as it is written: a compiled graph keeps no tape and runs no new hook.

    The stance is set by the first thread that needs it and put back by the last one; set and put back by each on its
    own, two threads that overlap would leave it set for good. A model without a compiled module does not touch it.
    """
    global _users  # noqa: PLW0603 - the stance is global, and so is the number of its users
    if not anatomy(model).compiled:
        yield
        return
    with _LOCK:
        if _users == 0:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0:
                _stance.close()
