"""Writing an answer: SGRS, sampling, stop strings, JSON schemas, and the decoding loops."""
