# Generated from memx_sdk/_async/transports/__init__.py by tools/unasync.py; change that file, not this one.
"""The transports of the SDK, HTTP and WebSocket, and how one is chosen."""
