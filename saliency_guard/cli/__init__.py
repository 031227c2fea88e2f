"""The command line: ``saliency-guard ...``."""
