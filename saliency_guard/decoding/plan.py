"""What a caller asks of an answer, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from saliency_guard.decoding.decoder import Decoder, LogitsProcessor
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """How one answer is to be written.

    Attributes:
        processor: logits processors; None changes nothing.
        seed: of the random numbers; None is greedy.
        stops: strings at which it ends.
        sgrs: rejection.
        saliency: scoring.
        signals: names of the signals its tokens are to have.
    """

    processor: LogitsProcessor | None
    seed: int | None
    stops: tuple[str, ...]
    sgrs: SGRSConfig | None
    saliency: SaliencyConfig | None
    signals: tuple[str, ...]

    def held_to(self, mask: LogitsProcessor) -> Plan:
        """The same with a rule that comes before the sampling rules."""
        rules = self.processor
        if rules is None:
            return replace(self, processor=mask)

        def both(input_ids: Tensor, scores: Tensor) -> Tensor:
            return rules(input_ids, mask(input_ids, scores))

        return replace(self, processor=both)

    def decoder(self, session: Session, eos: frozenset[int]) -> Decoder:
        """The rules for one session."""
        return Decoder(
            session=session,
            sgrs=self.sgrs,
            saliency=self.saliency,
            processor=self.processor,
            seed=self.seed,
            eos=eos,
        )
