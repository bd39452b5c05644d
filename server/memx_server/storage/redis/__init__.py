"""The Redis store: many API processes on many machines share its spaces."""

from memx_server.storage.redis.store import RedisStore

__all__ = ["RedisStore"]
