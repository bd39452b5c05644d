"""memX as shared state for AutoGen teams."""
