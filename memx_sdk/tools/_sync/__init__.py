# Generated from memx_sdk/tools/_async/__init__.py by tools/unasync.py; change that file, not this one.
"""What runs tools on a context, in the synchronous form from which the other is written."""
