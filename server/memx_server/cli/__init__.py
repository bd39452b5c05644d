"""The server's commands: ``memx dev``, ``memx serve``, ``memx demo`` and ``memx api-keys``."""
