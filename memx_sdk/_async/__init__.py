"""The asynchronous half of the SDK's client."""
