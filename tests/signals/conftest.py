from __future__ import annotations

import pytest
import tiny

from saliency_guard.signals.trace import AnswerTrace, trace_answer


@pytest.fixture(scope="package")
def trace() -> AnswerTrace:
    """An answer of a tiny model in which a token comes three times."""
    case = tiny.build("llava-gqa")
    return trace_answer(case.model, case.inputs, [5, 9, 5, 11, 5, 9, 13])
