"""Endpoints over HTTP."""
