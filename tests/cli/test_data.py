"""The data commands against a real server: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Memx


def test_set_then_get(online: Memx, prefix: str) -> None:
    written = online("set", f"{prefix}k", '{"b": [1, "é"]}')
    read = online("get", f"{prefix}k")

    assert (written.code, written.out) == (0, "")
    assert "version 1" in written.err
    assert (read.code, read.out, read.err) == (0, '{"b": [1, "é"]}\n', "")


@pytest.mark.parametrize(
    "text",
    ["1.10", "1e400000", "12345678901234567890123", "null", '{"n":null,"x":0.30}', '"NaN"', "[]"],
)
def test_no_digit_is_lost_on_the_way(online: Memx, prefix: str, text: str) -> None:
    if text == "1e400000":
        assert online("set", f"{prefix}k", text).code in (2, 5)
        return
    online("set", f"{prefix}k", text)

    assert online("get", f"{prefix}k").out == f"{text}\n"
    assert f'"value":{text}' in online("get", f"{prefix}k", "--json").out


def test_numbers_are_shown_as_they_were_written(online: Memx, prefix: str) -> None:
    text = '{"a":[1.10,-0.0,1e2,12345678901234567890.123456789],"n":null}'
    online("set", f"{prefix}k", text)

    for command in (
        ("keys", f"{prefix}*", "--values"),
        ("history", f"{prefix}k"),
        ("watch", f"{prefix}*", "--snapshot", "--count", "1"),
    ):
        assert text in online(*command).out, command
        assert f'"value":{text}' in online(*command, "--json").out, command
    lost = online("set", f"{prefix}k", "1", "--if-revision", "0")
    assert text in lost.err
    lost = online("set", f"{prefix}k", "1", "--if-revision", "0", "--json")
    assert f'"value":{text}' in lost.err


def test_values_come_from_stdin_files_and_plain_texts(online: Memx, prefix: str) -> None:
    Path(online.folder, "value.json").write_text('{"from": "file"}\n')
    Path(online.folder, "notes.txt").write_text("two\nlines\n")

    online("set", f"{prefix}stdin", "-", stdin="[1, 2]\n")
    online("set", f"{prefix}file", "@value.json")
    online("set", f"{prefix}string", "--string", "not JSON: {")
    online("set", f"{prefix}text", "--string", "@notes.txt")

    assert online("get", f"{prefix}stdin").out == "[1, 2]\n"
    assert online("get", f"{prefix}file").out == '{"from": "file"}\n'
    assert online("get", f"{prefix}string").out == '"not JSON: {"\n'
    assert online("get", f"{prefix}text").out == '"two\\nlines"\n'


def test_a_missing_key_exits_3(online: Memx, prefix: str) -> None:
    for command in ("get", "delete", "history"):
        ended = online(command, f"{prefix}nothing")
        assert (ended.code, ended.out) == (3, ""), command
        assert f"{prefix}nothing" in ended.err


def test_a_lost_race_exits_4_and_shows_what_is_there(online: Memx, prefix: str) -> None:
    online("set", f"{prefix}k", '"first"')
    lost = online("set", f"{prefix}k", '"second"', "--if-revision", "0")
    as_json = online("set", f"{prefix}k", '"second"', "--if-revision", "0", "--json")

    assert lost.code == 4
    assert '"first"' in lost.err
    assert json.loads(as_json.err)["entry"]["value"] == "first"
    assert online("get", f"{prefix}k").out == '"first"\n'


def test_json_documents_of_writes_and_reads_fit_together(online: Memx, prefix: str) -> None:
    written = online("set", f"{prefix}k", "1", "--json", "--reason", "because").document
    entry = online("get", f"{prefix}k", "--json").document
    again = online("set", f"{prefix}k", "2", "--if-revision", str(entry["revision"]))
    (newest, oldest) = online("history", f"{prefix}k", "--json").documents
    past = online("get", f"{prefix}k", "--at", str(written["revision"]))
    gone = online("delete", f"{prefix}k", "--json").document

    assert written["revision"] == entry["revision"]
    assert again.code == 0
    assert entry["writer"] == "dev/cli"
    assert (newest["value"], oldest["value"], oldest["reason"]) == (2, 1, "because")
    assert past.out == "1\n"
    assert gone["deleted"] is True


def test_a_pattern_is_deleted_only_where_it_is_said(online: Memx, prefix: str) -> None:
    for name in ("a", "b"):
        online("set", f"{prefix}{name}", "1")

    refused = online("delete", f"{prefix}*")
    assert (refused.code, "--all" in refused.err) == (2, True)
    assert online("delete", f"{prefix}*", "--all", "--if-revision", "1").code == 2
    gone = online("delete", f"{prefix}*", "--all", "--json")
    assert gone.document == {"ok": True, "deleted": 2, "pattern": f"{prefix}*"}
    assert online("delete", f"{prefix}*", "--all").code == 3


def test_keys_lists_the_newest_and_filters(online: Memx, prefix: str) -> None:
    for name, number in (("b", "1.50"), ("a", "2")):
        online("set", f"{prefix}{name}", '{"n": ' + number + "}")

    assert online("keys", f"{prefix}*", "--newest").out == f"{prefix}a\n{prefix}b\n"
    found = online("keys", f"{prefix}*", "--filter", '{"n": {"$lt": 1.6}}', "--values")
    assert found.out == f'{prefix}b\t{{"n":1.50}}\n'
    refused = online("keys", f"{prefix}*", "--filter", '{"n": {"$like": 1}}')
    assert (refused.code != 0, "$gte" in refused.err) == (True, True)
    assert online("keys", "--filter", "n=1").code == 2


def test_keys_lists_what_a_pattern_matches(online: Memx, prefix: str) -> None:
    for name in ("b", "a", "other"):
        online("set", f"{prefix}{name}", f'"{name}"')

    assert online("keys", f"{prefix}?").out == f"{prefix}a\n{prefix}b\n"
    assert online("keys", f"{prefix}?", "--limit", "1").out == f"{prefix}a\n"
    assert online("keys", f"{prefix}?", "--json").documents == [f"{prefix}a", f"{prefix}b"]
    assert online("keys", f"{prefix}?", "--values").out == f'{prefix}a\t"a"\n{prefix}b\t"b"\n'
    values = online("keys", f"{prefix}?", "--values", "--json").documents
    assert [entry["value"] for entry in values] == ["a", "b"]


def test_a_ttl_and_a_history_that_keeps_no_value(online: Memx, prefix: str) -> None:
    online("set", f"{prefix}k", "1", "--ttl", "600", "--no-history")

    assert online("get", f"{prefix}k", "--json").document["expires_at"] is not None
    assert "value" not in online("history", f"{prefix}k", "--json").document


def test_what_others_wrote_cannot_drive_the_terminal(online: Memx, prefix: str) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202etxt"
    online("set", f"{prefix}k", json.dumps(evil, ensure_ascii=False), "--reason", "\x1b[2J")

    for arguments in (("history", f"{prefix}k"), ("keys", "--values", f"{prefix}*")):
        shown = online(*arguments)
        assert shown.code == 0
        assert not set(shown.out + shown.err) & set("\x1b\x07\x9b\u202e"), arguments


def test_keys_are_shown_as_they_are(online: Memx, prefix: str) -> None:
    for name in ("task:x:", "two words", "é"):
        # In a sentence a key of several words is quoted, so that it cannot pass for more than a key.
        shown = f'"{prefix}{name}"' if " " in name else f"{prefix}{name}"
        written = online("set", f"{prefix}{name}", '"[bold]:x:[/]"')
        assert f"set {shown}: revision" in written.err
        assert f'{prefix}{name}\t"[bold]:x:[/]"\n' in online("keys", f"{prefix}*", "--values").out


def test_schemas(online: Memx, prefix: str) -> None:
    pattern = f"{prefix}*"
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    Path(online.folder, "schema.json").write_text(json.dumps(schema))

    assert online("schema", "get", pattern).code == 3
    assert online("schema", "set", pattern, "@schema.json").code == 0
    assert json.loads(online("schema", "get", pattern).out) == schema
    assert pattern in online("schema", "list").out

    assert online("schema", "check", f"{prefix}k", '{"n": 1}').code == 0
    refused = online("schema", "check", f"{prefix}k", '{"n": "one"}')
    assert refused.code == 5
    assert "/n" in refused.err
    assert online("schema", "check", f"{prefix}k", "[]", "--json").document["valid"] is False
    assert online("set", f"{prefix}k", '{"n": "one"}').code == 5

    assert online("schema", "delete", pattern).code == 0
    assert online("schema", "delete", pattern).code == 3
    assert online("schema", "check", f"{prefix}k", '{"n": "one"}').code == 0


def test_keys_that_open_nothing_exit_6(online: Memx) -> None:
    assert online("whoami", MEMX_API_KEY="wrong").code == 6
    unset = online("whoami", MEMX_API_KEY="")
    assert unset.code == 6
    assert "MEMX_API_KEY" in unset.err


def test_whoami(online: Memx) -> None:
    assert "dev/cli" in online("whoami").out
    assert online("whoami", "--json", "--agent", "me").document["writer"] == "dev/me"


def test_requests_that_the_server_refuses_exit_5(online: Memx) -> None:
    assert online("set", "k*", "1").code == 5
    assert online("set", "k", '{"a":1,"a":2}').code == 5
    assert online("keys", "[").code == 5
