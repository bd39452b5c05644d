"""memX as LangChain's tool, memory and state."""
