"""The SDK's transports that reach a server without a network: in this process or in this folder."""
