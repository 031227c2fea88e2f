"""saliency-guard for LangChain (a skeleton: nothing is here yet)."""

__version__ = "0.1.0"
__all__ = ["__version__"]
