# Generated from memx_sdk/tools/_async/__init__.py by tools/unasync.py; change that file, not this one.
"""The synchronous half of the tools: their runner and the briefing."""
