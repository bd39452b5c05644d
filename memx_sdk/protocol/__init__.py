"""The rules that client and server share: keys, cursors, error codes. Pure: no I/O, no dependency."""
