"""Promise 6: a write sent again under its token is applied once and answers as the first time."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Delete,
    Idempotency,
    IdempotencyMismatch,
    Put,
    PutSchema,
    Store,
    Touch,
    Transaction,
    Write,
)
from msgspec.structs import replace

from tests.storage.helpers import SPACE, commit, commit_one, put, value, whole_log

TOKEN = Idempotency("principal/token-1", "digest-1", b"note")


def tokened(*writes: Write, token: Idempotency = TOKEN) -> Transaction:
    return Transaction("w", writes, idempotency=token)


async def test_a_repetition_answers_as_the_first_time_and_changes_nothing(store: Store) -> None:
    transaction = tokened(Put("a", b'"once"', ttl_ms=60_000), Delete("missing"), Put("b", b"1"))

    first = await commit_one(store, SPACE, transaction)
    await put(store, "a", "later")
    again = await commit_one(store, SPACE, transaction)

    assert isinstance(first, Committed)
    assert first.replayed_note is None
    assert again == replace(first, replayed_note=b"note")
    assert await value(store, "a") == "later"
    assert len(await whole_log(store)) == 2


async def test_a_repetition_answers_though_its_checks_would_fail_by_now(store: Store) -> None:
    transaction = Transaction(
        "w", [Put("a", b"1")], [Compare("a", 0)], schema_revision=0, idempotency=TOKEN
    )

    first = await commit_one(store, SPACE, transaction)
    await commit(store, PutSchema("a", b"false"))
    again = await commit_one(store, SPACE, transaction)

    assert isinstance(first, Committed)
    assert again == replace(first, replayed_note=b"note")


async def test_the_same_token_with_another_request_is_a_mismatch(store: Store) -> None:
    await commit_one(store, SPACE, tokened(Put("a", b"1")))

    other = replace(TOKEN, digest="digest-2")
    assert (
        await commit_one(store, SPACE, tokened(Put("a", b"2"), token=other))
        == IdempotencyMismatch()
    )

    assert await value(store, "a") == 1


async def test_other_tokens_are_other_requests(store: Store) -> None:
    tokens = ["t", "t2", "T", "t:", "{t}", "t\n", "\N{GRINNING FACE}", "x" * 400]
    for token in tokens:
        outcome = await commit_one(
            store, SPACE, tokened(Put("a", b"1"), token=Idempotency(token, "same"))
        )
        assert isinstance(outcome, Committed)
        assert outcome.replayed_note is None

    assert len(await whole_log(store)) == len(tokens)


async def test_a_token_belongs_to_its_space(store: Store) -> None:
    await commit_one(store, SPACE, tokened(Put("a", b"1")))

    elsewhere = await commit_one(store, "other", tokened(Put("a", b"1")))

    assert isinstance(elsewhere, Committed)
    assert elsewhere.replayed_note is None
    assert await value(store, "a", space="other") == 1


async def test_of_many_repetitions_at_a_time_one_is_applied(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(commit_one(store, SPACE, tokened(Put("a", b"1"))) for _ in range(20))
    )

    committed = [outcome for outcome in outcomes if isinstance(outcome, Committed)]
    assert len(committed) == 20
    assert [outcome.replayed_note for outcome in committed].count(None) == 1
    assert len({outcome.position for outcome in committed}) == 1
    assert len(await whole_log(store)) == 1


async def test_a_refused_write_is_not_remembered(store: Store) -> None:
    transaction = Transaction("w", [Put("a", b"1")], [Compare("b", 0)], idempotency=TOKEN)
    await put(store, "b")

    assert isinstance(await commit_one(store, SPACE, transaction), Conflicted)
    await commit(store, Delete("b"))
    outcome = await commit_one(store, SPACE, transaction)

    assert isinstance(outcome, Committed)
    assert outcome.replayed_note is None


async def test_a_write_that_changed_nothing_is_remembered(store: Store) -> None:
    await put(store, "b")
    transaction = tokened(Delete("a"), Touch("b", 60_000))

    first = await commit_one(store, SPACE, transaction)
    await put(store, "a", "precious")
    again = await commit_one(store, SPACE, transaction)

    assert isinstance(first, Committed)
    assert again == replace(first, replayed_note=b"note")
    assert await value(store, "a") == "precious"


async def test_a_note_comes_back_byte_for_byte(store: Store) -> None:
    for number, note in enumerate([b"", b"\x00\xff\n\r\n", b'{"a": 1.10}', bytes(range(256)) * 20]):
        transaction = tokened(Put("a", b"1"), token=Idempotency(f"token-{number}", "d", note))
        await commit_one(store, SPACE, transaction)

        again = await commit_one(store, SPACE, transaction)

        assert isinstance(again, Committed)
        assert again.replayed_note == note
