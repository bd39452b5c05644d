"""Presence: who is at work in a space."""
