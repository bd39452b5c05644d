"""Connections to Redis: single server, Sentinel and Cluster, commands, scripts and pub/sub."""
