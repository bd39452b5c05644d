"""The engine of the hot path and the reference give the same verdict on the official suite.

The suite's files are not part of the repository: they are read from MEMX_JSON_SCHEMA_TEST_SUITE, or
from ``../shared/json-schema-test-suite`` beside it. This is the one test that may skip without them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import referencing
import referencing.exceptions
from jsonschema.validators import validator_for
from memx_server.domain.schema.schema import Schema, check_registration
from memx_server.settings import Limits
from referencing.jsonschema import Schema as AnySchema
from referencing.jsonschema import specification_with

from memx_sdk.protocol.errors import ProtocolError

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(
    os.environ.get("MEMX_JSON_SCHEMA_TEST_SUITE") or ROOT.parent / "shared/json-schema-test-suite"
)
DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
REMOTE = "http://localhost:1234/"
"""Where the suite pretends that further documents lie."""

NO_UNICODE_CLASSES = (
    "the reference runs patterns in Python's dialect, which has no \\p{Letter}; the engine runs "
    "them as the suite expects"
)
ADJACENT = (
    "the reference takes no notice of what an adjacent additionalProperties has evaluated; the "
    "engine judges as the suite expects"
)
LETTERS = "pattern with Unicode property escape requires unicode mode"
LETTER_NAMES = "patternProperties with Unicode property escape"
DISAGREEMENTS = {
    ("draft2020-12", LETTERS, "ASCII letters match"): NO_UNICODE_CLASSES,
    ("draft2020-12", LETTERS, "Non-ASCII letters match"): NO_UNICODE_CLASSES,
    ("draft2020-12", LETTERS, "Digits do not match"): NO_UNICODE_CLASSES,
    ("draft2020-12", LETTER_NAMES, "Unicode letter property name matches"): NO_UNICODE_CLASSES,
    (
        "draft2020-12",
        LETTER_NAMES,
        "Non-letter property name does not match pattern",
    ): NO_UNICODE_CLASSES,
    (
        "draft2019-09",
        "unevaluatedProperties with adjacent non-bool additionalProperties",
        "with additional properties",
    ): ADJACENT,
}
"""(draft, group, test): why the engine judges otherwise than the reference."""

pytestmark = pytest.mark.skipif(
    not (SUITE / "tests").is_dir(), reason=f"the JSON Schema test suite is not in {SUITE}"
)


class Group(NamedTuple):
    name: str
    schema: Any
    tests: list[dict[str, Any]]


def groups(draft: str) -> Iterator[Group]:
    for path in sorted((SUITE / "tests" / draft).glob("*.json")):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if isinstance(schema, dict):
                schema = {"$schema": DRAFTS[draft], **schema}
            yield Group(group["description"], schema, group["tests"])


class Remotes:
    """The documents that the suite's schemas refer to, for the reference alone."""

    def __init__(self, draft: str) -> None:
        self._specification = specification_with(DRAFTS[draft])
        self.fetched = False

    def __call__(self, uri: str) -> referencing.Resource[AnySchema]:
        path = SUITE / "remotes" / uri.removeprefix(REMOTE)
        if not uri.startswith(REMOTE) or not path.is_file():
            raise referencing.exceptions.NoSuchResource(uri)
        self.fetched = True
        return referencing.Resource.from_contents(
            json.loads(path.read_text()), default_specification=self._specification
        )


def reference_verdicts(draft: str, group: Group) -> tuple[list[bool | None], bool]:
    """What jsonschema says of each test (None: it fails), and whether it had to fetch for it."""
    remotes = Remotes(draft)
    default = validator_for({"$schema": DRAFTS[draft]})
    validator = validator_for(group.schema, default=default)(
        group.schema,
        registry=referencing.Registry(retrieve=remotes),  # type: ignore[call-arg]  # attrs' alias
    )
    verdicts: list[bool | None] = []
    for test in group.tests:
        try:
            verdicts.append(validator.is_valid(test["data"]))
        except Exception:  # noqa: BLE001 - whatever it fails with, it gives no verdict
            verdicts.append(None)
    return verdicts, remotes.fetched


def engine_verdicts(group: Group) -> list[bool] | None:
    """What memX says of each test; None where it does not register the schema."""
    text = json.dumps(group.schema).encode()
    try:
        check_registration(text, Limits())
    except ProtocolError:
        return None
    schema = Schema("key", text)
    return [not schema.violations(json.dumps(test["data"]).encode()) for test in group.tests]


@pytest.mark.parametrize("draft", DRAFTS)
def test_engine_and_reference_agree(draft: str) -> None:
    disagreements = set()
    judged = 0
    for group in groups(draft):
        ours = engine_verdicts(group)
        theirs, fetched = reference_verdicts(draft, group)
        names_own_dialect = isinstance(group.schema, dict) and group.schema["$schema"].startswith(
            REMOTE
        )
        # What lies elsewhere is never fetched, so that a schema which needs it is not registered.
        assert (ours is None) == (fetched or names_own_dialect), group.name
        for test, our, their in zip(group.tests, ours or [], theirs, strict=ours is not None):
            judged += 1
            assert our == test["valid"], (group.name, test["description"])
            if our != their:
                disagreements.add((draft, group.name, test["description"]))
    assert disagreements == {each for each in DISAGREEMENTS if each[0] == draft}
    assert judged > 800
