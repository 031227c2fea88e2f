"""Measurement: object mentions, CHAIR, POPE, detection AUROC, and what mitigation does."""
