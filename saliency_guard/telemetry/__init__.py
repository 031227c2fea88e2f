"""What answers rest on, for OpenTelemetry: one call, and every answer and every policy's run has a span."""

from saliency_guard.telemetry.evaluation import Evaluation
from saliency_guard.telemetry.instrument import instrument, uninstrument

__all__ = ["Evaluation", "instrument", "uninstrument"]
