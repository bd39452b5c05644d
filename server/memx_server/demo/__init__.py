"""The collaborative agents of ``memx demo``: they share keys, and know of each other nothing else."""
