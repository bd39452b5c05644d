"""Collections for coroutines; the twin in `_sync` is generated from it."""
