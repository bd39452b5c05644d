"""The memX server."""
