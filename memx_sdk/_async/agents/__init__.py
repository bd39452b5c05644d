"""Agents: handlers that run when keys change, and their workers."""
