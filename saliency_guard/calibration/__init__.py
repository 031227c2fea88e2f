"""From signals to probabilities: fitting, judging, thresholds with a guarantee."""
