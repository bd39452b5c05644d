"""The memX server."""

from memx_sdk import __version__ as __version__
