"""A small explorer in Streamlit: the keys of a memory, their values as they change, and a Supabase project's API keys.

    pip install streamlit memx-server
    MEMX_API_KEY=local_dev_key streamlit run examples/streamlit_app.py --server.address 127.0.0.1

Who starts it sees what that API key opens. With SUPABASE_URL and SUPABASE_SERVICE_KEY set it also lists, creates and
revokes API keys, as `memx api-keys --supabase` does, for whoever reaches the page: so let Streamlit serve it on this
machine alone (`--server.address 127.0.0.1`).
"""

from __future__ import annotations

import json
import os
from typing import Any

import streamlit as st  # type: ignore[import-not-found, unused-ignore]  # an example's own requirement
from memx_server.auth.grants import Grant
from memx_server.auth.key_store import KeyStoreUnavailable, StoredKey, new_key, stored_form
from memx_server.auth.supabase import SupabaseKeyStore

from memx_sdk import MemxError, memxContext
from memx_sdk.protocol.keys import validate_pattern

REFRESH_SECONDS = 1.0


@st.cache_resource
def memory() -> memxContext:
    """The one context of this program; the environment says to which server, and with which API key."""
    return memxContext(agent="explorer")


def main() -> None:
    """Show the page."""
    st.set_page_config(page_title="memX explorer", layout="wide")
    st.title("memX explorer")
    try:
        me = memory().whoami()
    except MemxError as error:
        st.error(f"{error.detail} (MEMX_API_KEY, MEMX_BASE_URL)")
        st.stop()
    st.caption(f"space {me['space']}, as {me['writer']}")
    tabs = st.tabs(["Memory", "API keys"])
    with tabs[0]:
        pattern = st.text_input("Keys", "*", help="A pattern: * any run of characters, ? one")
        entries(pattern)
        details()
    with tabs[1]:
        api_keys()


@st.fragment(run_every=REFRESH_SECONDS)
def entries(pattern: str) -> None:
    """Show the entries as they are now; only this part of the page is drawn again each second."""
    try:
        found = list(memory().entries(pattern))
    except MemxError as error:
        st.warning(error.detail)
        return
    rows = [
        {
            "key": entry.key,
            "value": json.dumps(entry.value, ensure_ascii=False)[:200],
            "writer": entry.writer,
            "version": entry.version,
        }
        for entry in found
    ]
    st.caption(f"{len(rows)} keys")
    st.dataframe(rows, hide_index=True, width="stretch")


def details() -> None:
    """Show one key with its history, and write it where a person edits it."""
    key = st.text_input("Look at one key", "")
    if not key:
        return
    try:
        entry = memory().get(key)
        st.json(entry.value if entry else None)
        for change in memory().history(key, limit=10):
            st.caption(
                f"revision {change.revision}, {change.writer}: {change.reason or change.action}"
            )
        write(key, entry)
    except MemxError as error:
        st.warning(error.detail)


def write(key: str, entry: Any) -> None:
    """Let a person write; never over what somebody else has written since the form was drawn."""
    drawn = st.session_state
    if drawn.get("key") != key:
        # Each click runs this program anew and reads anew: only what the form showed says what a person has seen.
        drawn.key, drawn.revision = key, entry.revision if entry else 0
        drawn.text = json.dumps(entry.value, ensure_ascii=False) if entry else "null"
    with st.form("write"):
        text = st.text_area("Value, as JSON", drawn.text)
        if not st.form_submit_button("Write"):
            return
    try:
        value = json.loads(text)
    except ValueError as error:
        st.error(f"This is no JSON: {error}")
        return
    revision = drawn.revision
    del drawn.key  # the form is drawn from the present entry again, whichever way this ends
    memory().set(key, value, if_revision=revision, reason="by hand")
    st.rerun()


def api_keys() -> None:
    """List, create and revoke the API keys of a Supabase project."""
    url, service_key = os.environ.get("SUPABASE_URL"), os.environ.get("SUPABASE_SERVICE_KEY")
    if not url or not service_key:
        st.info("Set SUPABASE_URL and SUPABASE_SERVICE_KEY to manage a project's API keys here.")
        return
    store = SupabaseKeyStore(url, service_key)
    try:
        found = store.keys()
    except KeyStoreUnavailable as error:
        st.error(str(error))
        return
    st.dataframe([described(each) for each in found], hide_index=True, width="stretch")
    create(store)
    revoke(store, [each for each in found if each.active])


def described(key: StoredKey) -> dict[str, str]:
    """Return a row for a key: by its label, since nobody but its owner may see the key itself."""
    return {
        "label": key.label,
        "agent": key.grant.agent or "",
        "space": key.grant.space,
        "read": " ".join(key.grant.read),
        "write": " ".join(key.grant.write),
        "state": key.state,
    }


def create(store: SupabaseKeyStore) -> None:
    """Make an API key and show it once; the table gets its SHA-256."""
    with st.form("create"):
        agent = st.text_input("Agent", "", help="The name that its writes carry")
        read = st.text_input("May read (patterns, with spaces between)", "agent:*")
        write = st.text_input("May write", "agent:goal")
        if not st.form_submit_button("Create"):
            return
    try:
        grant = Grant(agent=agent or None, read=patterns(read), write=patterns(write)).check()
        key = new_key()
        store.add(stored_form(key), grant)
    except (ValueError, MemxError, KeyStoreUnavailable) as error:
        st.error(str(error))
        return
    st.success("Keep it now: it cannot be shown again.")
    st.code(key, language=None)


def patterns(text: str) -> tuple[str, ...]:
    """Read patterns as a person types them."""
    return tuple(validate_pattern(each) for each in text.split())


def revoke(store: SupabaseKeyStore, active: list[StoredKey]) -> None:
    """Make a key void; its open connections end within seconds."""
    chosen = st.selectbox("Revoke", [each.label for each in active], index=None)
    if chosen and st.button("Revoke it"):
        (key,) = [each for each in active if each.label == chosen]
        store.revoke(key.stored)
        st.rerun()


main()
