"""``memx merge|patch|increment|append|touch|txn``, and reading at a revision."""

from __future__ import annotations

import json

import pytest

from memx_sdk.cli import completion
from tests.cli.conftest import DevServer, Memx, Run


def test_updates_print_what_they_made_to_the_last_digit(here: Run, prefix: str) -> None:
    key = f"{prefix}k"

    assert here("merge", key, '{"a": 1.50, "b": null}').out == '{"a":1.50}\n'
    patch = '[{"op": "add", "path": "/c", "value": 12345678901234567890.10}]'
    assert here("patch", key, patch).out == '{"a":1.50,"c":12345678901234567890.10}\n'
    assert here("increment", f"{prefix}n", "-0.10").out == "-0.10\n"
    assert here("increment", f"{prefix}n", "--json").document["value"] == 0.9
    assert here("append", f"{prefix}l", "-1", '"x"').out == '[-1,"x"]\n'
    assert here("append", f"{prefix}l", "--string", "y z", "--cap", "2").out == '["x","y z"]\n'
    assert here("merge", key, "-", stdin='{"a": null}').out == '{"c":12345678901234567890.10}\n'


def test_a_touch_moves_the_expiry_alone(here: Run, prefix: str) -> None:
    written = here("set", f"{prefix}k", "1", "--json").document

    assert here("touch", f"{prefix}k", "600", "--json").document["expires_at"] is not None
    assert here("get", f"{prefix}k", "--json").document["revision"] == written["revision"]
    never = here("touch", f"{prefix}k", "never", "--json").document
    assert never["expires_at"] is None
    assert here("touch", f"{prefix}nothing", "5").code == 3


def test_a_bound_refuses_an_increment(here: Run, prefix: str) -> None:
    refused = here("increment", f"{prefix}n", "5", "--max", "3")

    assert refused.code == 5
    assert "maximum" in refused.err
    assert here("get", f"{prefix}n").code == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("increment", "k", "one"), "BY"),
        (("increment", "k", "nan"), "BY"),
        (("increment", "k", "--min", "x"), "--min"),
        (("merge", "k", "{"), "MEMBERS is not JSON"),
        (("patch", "k", "{}"), "OPERATIONS is no JSON list"),
        (("append", "k"), "items"),
        (("txn", "[]"), "TRANSACTION is no JSON object"),
        (("txn", '{"than": []}'), "'than'"),
    ],
)
def test_what_cannot_be_an_update_is_a_usage_error(
    here: Run, arguments: tuple[str, ...], named: str
) -> None:
    refused = here(*arguments)

    assert refused.code == 2
    assert named.lower() in " ".join(refused.err.replace("│", " ").split()).lower()


def test_a_transaction_runs_one_branch(here: Run, prefix: str) -> None:
    key = f"{prefix}k"
    compares = [{"key": key, "exists": False}]
    both = {"if": compares, "then": [{"op": "set", "key": key, "value": 1}]}

    assert here("txn", json.dumps(both)).code == 0
    lost = here("txn", json.dumps(both))
    assert (lost.code, lost.out) == (4, "")
    read = {**both, "else": [{"op": "get", "key": key}]}
    answered = here("txn", "-", "--json", stdin=json.dumps(read))
    assert answered.code == 0
    assert answered.document["branch"] == "else"


def test_the_last_digits_of_a_revision_are_enough(here: Run, prefix: str) -> None:
    key = f"{prefix}k"
    first = here("set", key, '"first"', "--json").document["revision"]
    here("set", key, '"second"')

    assert here("get", key, "--at", str(first)).out == '"first"\n'
    assert here("get", key, "--at", f"…{str(first)[-6:]}").out == '"first"\n'
    before = here("get", key, "--at", str(first - 1))
    assert before.code == 3
    assert "was no key" in before.err
    assert str(first - 1) in before.err
    for wrong, why in (("x", "whole number"), ("0", "whole number"), ("999999999", "no revision")):
        refused = here("get", key, "--at", wrong)
        assert refused.code == 2
        assert why in " ".join(refused.err.replace("│", " ").split())


def test_changes_go_on_from_their_cursor(here: Run, prefix: str) -> None:
    for number in range(3):
        here("set", f"{prefix}{number}", str(number))

    first = here("changes", f"{prefix}*", "--limit", "2", "--json").document
    rest = here("changes", f"{prefix}*", "--since", first["cursor"])
    assert [change["value"] for change in first["changes"]] == [0, 1]
    assert f"{prefix}2 = 2" in rest.out
    assert "--since" in rest.err
    assert here("changes", "--since", "nonsense").code == 5


def test_presence_names_who_is_at_work(here: Run, prefix: str) -> None:
    here("set", f"{prefix}k", "1", "--agent", "worker-7")

    assert "dev/worker-7" in here("presence").out
    assert "dev/worker-7" in here("presence", "--json").out


def test_memory_keys_and_api_keys_have_commands_of_their_own(here: Run, memx: Memx) -> None:
    here("set", "create", "1")

    assert here("keys", "create").out == "create\n"
    assert "create" in memx("api-keys", "--help").out
    assert "memx api-keys" in here("keys", "--help").out


def test_bash_completes_keys_with_colons(
    here: Run, shared_server: DevServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("set", f"{prefix}goal", "1")
    here("set", f"{prefix}go", "1")
    # Bash hands a key on in pieces, and replaces what stands behind the last colon.
    environ = {"COMP_WORDS": f"memx get {prefix[:-1]} : go --at", "COMP_CWORD": "4"}
    completion.join_colons(environ)
    assert environ == {"COMP_WORDS": f"memx get {prefix}go --at", "COMP_CWORD": "2"}
    monkeypatch.setenv("MEMX_BASE_URL", shared_server.url)
    monkeypatch.setenv("MEMX_API_KEY", "local_dev_key")
    assert completion.complete_key(f"{prefix}go") == [f"{prefix}go", f"{prefix}goal"]
    monkeypatch.setenv("_MEMX_COMPLETE", "complete_bash")
    assert completion.complete_key(f"{prefix}go") == ["go", "goal"]
    assert completion.complete_key(f"{prefix}*") == []


def test_a_shell_completes_commands(memx: Memx) -> None:
    done = memx(_MEMX_COMPLETE="complete_bash", COMP_WORDS="memx incr", COMP_CWORD="1")
    assert done.out.split() == ["increment"]


def test_completion_is_silent_without_a_server(memx: Memx) -> None:
    environ = {"MEMX_API_KEY": "k", "MEMX_BASE_URL": "http://127.0.0.1:9"}
    done = memx(_MEMX_COMPLETE="complete_bash", COMP_WORDS="memx get k", COMP_CWORD="2", **environ)
    assert (done.out.strip(), done.err) == ("", "")
