"""What client and server agree on: key rules, cursors, error codes. Pure: no I/O, no dependency."""
