"""How the embedded model was made; nothing else imports it."""
