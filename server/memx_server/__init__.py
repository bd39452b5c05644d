"""The memX server."""

from memx_sdk._version import __version__ as __version__
