"""Endpoints over WebSocket."""
