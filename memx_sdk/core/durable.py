"""The operations of durable subscriptions: their holder and their acknowledged position."""

from __future__ import annotations

from typing import Any

from memx_sdk.core.calls import Call, given, reading
from memx_sdk.core.responses import decode_object
from memx_sdk.core.transport import Request


def claim(name: str, holder: str) -> Call[str | None]:
    """Become the holder of ``name``; returns the cursor acknowledged last, None for a new name."""
    return Call(
        _post("claim", name=name, holder=holder), lambda body: decode_object(body)["cursor"]
    )


def acknowledge(name: str, holder: str, cursor: str | None) -> Call[dict[str, Any]]:
    """Acknowledge everything up to ``cursor``; None only checks that ``holder`` still holds the name."""
    # ``given`` leaves a None out, and an acknowledgement without a cursor is the server's way to
    # ask only for the holder.
    return Call(_post("ack", name=name, holder=holder, cursor=cursor), decode_object)


def release(name: str, holder: str) -> Call[dict[str, Any]]:
    """Stop being the holder; the cursor stays."""
    return Call(_post("release", name=name, holder=holder), decode_object)


def forget(name: str) -> Call[dict[str, Any]]:
    """Drop the cursor: the next holder begins anew."""
    request = reading("durable_forget", "/durable", given(name=name), method="DELETE")
    return Call(request, decode_object)


def listing() -> Call[list[dict[str, Any]]]:
    """Ask for all durable subscriptions of the API key's principal."""
    request = reading("durable_list", "/durable", {})
    return Call(request, lambda body: list(decode_object(body)["durable"]))


def _post(what: str, **members: str | None) -> Request:
    """Make a request that may be repeated without a key: each says how things are to be."""
    # ``holder`` is what makes that safe: the same holder may say the same twice, and an
    # acknowledgement or a release that comes late, after another took the name over, is refused.
    return reading(f"durable_{what}", f"/durable/{what}", given(**members), method="POST")
