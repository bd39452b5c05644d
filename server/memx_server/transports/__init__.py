"""The SDK's transports that need no network: to this process's application, or to a folder's."""
