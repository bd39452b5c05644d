"""The collaborative agents of ``memx demo``: they share keys, and nothing else."""
