"""The thresholds that guarantees are tested for, fixed before any data is seen, as the tests require."""

from __future__ import annotations

import numpy as np

THRESHOLDS: tuple[float, ...] = tuple((1 / (1 + np.exp(-np.linspace(-3.0, 7.0, 41)))).round(6).tolist())
"""Probabilities at even steps of log-odds, the most lenient first."""
