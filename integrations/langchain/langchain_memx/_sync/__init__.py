# Generated from integrations/langchain/langchain_memx/_async/__init__.py by tools/unasync.py; change that file, not this one.
"""The synchronous half of what reads and writes records, from which tools/unasync.py writes the other one."""
