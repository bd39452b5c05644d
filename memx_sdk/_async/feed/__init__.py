"""Feeds that outlive broken connections, and the subscriptions over them."""
