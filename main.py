"""The application under the name by which the original was started: ``uvicorn main:app --reload --port 8000``.

It is `memx_server.app`, on the Redis at REDIS_URL. ``memx dev`` and ``memx serve`` start it with uvicorn's settings as
they should be.
"""

from __future__ import annotations

from memx_server.app import create_app

app = create_app()
