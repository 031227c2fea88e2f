"""Chat messages in: pictures loaded safely, the chat template applied, and which position belongs to which source."""
