"""``python -m saliency_guard.cli``."""

from __future__ import annotations

from saliency_guard.cli import main

if __name__ == "__main__":
    main()
