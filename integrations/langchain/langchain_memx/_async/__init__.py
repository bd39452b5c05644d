"""The asynchronous half of what reads and writes records, from which tools/unasync.py writes the other one."""
