"""The processes that validate and compute what would hold up the event loop."""
