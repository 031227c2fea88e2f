"""The embedded model: weights, tokenizer, card, and the scripts that train and measure it."""
