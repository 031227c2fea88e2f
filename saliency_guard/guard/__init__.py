"""What to do with an answer by how well it is grounded: accept, retry, flag, fall back, raise."""
