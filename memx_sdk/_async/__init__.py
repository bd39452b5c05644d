"""The asynchronous half of the SDK, from which tools/unasync.py writes the other one."""
