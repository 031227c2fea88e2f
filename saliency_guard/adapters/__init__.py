"""What LangChain, LlamaIndex and the server share."""
