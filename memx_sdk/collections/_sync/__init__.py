# Generated from memx_sdk/collections/_async/__init__.py by tools/unasync.py; change that file, not this one.
"""Collections for coroutines; the twin in `_sync` is generated from it."""
