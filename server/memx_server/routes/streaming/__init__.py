"""Subscriptions on a connection, whichever endpoint opened them."""
