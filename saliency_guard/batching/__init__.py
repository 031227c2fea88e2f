"""Concurrent calls of one model: they join one running batch and leave it, each with the result it has alone."""
