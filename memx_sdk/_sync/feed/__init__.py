# Generated from memx_sdk/_async/feed/__init__.py by tools/unasync.py; change that file, not this one.
"""Feeds that outlive broken connections, and the subscriptions over them."""
