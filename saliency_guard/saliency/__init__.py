"""Saliency, Eq. 3 to 6 of the paper."""
