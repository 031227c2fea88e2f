"""Where the work on many records runs: in this process, or on the workers of a Ray cluster."""
