"""A transformers model: loaded, run, and left as it was found."""
