# Generated from memx_sdk/_async/__init__.py by tools/unasync.py; change that file, not this one.
"""The synchronous half of the SDK's client."""
