"""``SECURITY.md``: every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_tests_that_it_names_exist() -> None:
    named = set(re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", PAGE))
    assert len(named) > 20
    paths = {name if "/" in name else f"tests/access/{name}" for name in named}
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []


def test_each_kind_of_attack_has_its_table() -> None:
    assert re.findall(r"^\*\*([A-F])\. ", PAGE, re.MULTILINE) == list("ABCDEF")
