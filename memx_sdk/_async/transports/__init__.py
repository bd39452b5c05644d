"""The transports of the SDK, HTTP and WebSocket, and how one is chosen."""
