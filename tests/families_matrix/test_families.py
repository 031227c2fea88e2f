"""Every family of models against everything it has to hold; ``make families`` runs this and writes docs/models.md."""

from __future__ import annotations

import families
import family_checks
import pytest

from saliency_guard import UnsupportedModelError


@pytest.mark.parametrize("check", list(family_checks.CHECKS))
@pytest.mark.parametrize("name", list(families.NAMES))
def test_family(name: str, check: str) -> None:
    reason = families.limit(name, check)
    if reason is None:
        family_checks.CHECKS[check](name)
    else:
        with pytest.raises(UnsupportedModelError, match=reason):
            family_checks.CHECKS[check](name)
