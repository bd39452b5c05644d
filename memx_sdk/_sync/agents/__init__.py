# Generated from memx_sdk/_async/agents/__init__.py by tools/unasync.py; change that file, not this one.
"""Agents: handlers that run when keys change, and their workers."""
