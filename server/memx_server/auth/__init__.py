"""Authentication: where API keys are stored, and the principal that each stands for."""
