"""The picture world with exact ground truth: render, caption, question."""
