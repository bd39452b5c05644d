"""From credential to principal."""
