"""The feed: every change of a space to every subscriber who may see it, in order, once."""
