"""Fixtures of the SDK's tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.halves import HALVES, Half


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> Any:
    """Runs a test for either half of the SDK."""
    chosen: Half = request.param
    return chosen
