"""Entries: reading, writing, updating and transactions."""
