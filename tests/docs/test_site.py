"""The documentation as a site: it builds without a warning, and what programs read of it is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from memx_server.routes.ws.frames import BY_NAME, CONTROLS

from tests.docs.shell_blocks import ROOT

pytestmark = pytest.mark.timeout(150)

FRAMES = [
    json.loads(line)
    for line in re.findall(
        r'^\{"id": \d+, "op".*\}$',
        (ROOT / "docs/feed.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_and_every_picture_is_there(site: Path) -> None:
    pages = {str(path.parent.relative_to(site)) for path in site.rglob("index.html")}
    assert {"tutorial", "frameworks/langchain", "server", "security", "reference/sdk"} <= pages
    for html in site.rglob("*.html"):
        for picture in re.findall(r'<img[^>]* src="([^":]+)"', html.read_text(encoding="utf-8")):
            assert (html.parent / picture).exists(), f"{html}: {picture}"


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    for html in site.rglob("*.html"):
        text = html.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="https?://[^"]+"', text), html
        assert not re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="https?://[^"]+"', text), html


def test_it_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    text = " ".join(document["text"] for document in index["docs"])
    assert "fencing token" in text
    assert "if_revision" in text


def test_a_model_finds_every_page_in_llms_txt(site: Path) -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text(), re.MULTILINE)
    assert len(listed) > 20
    assert [link for link in listed if not (site / link).exists()] == []
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert "# Ten minutes: three agents, one memory" in whole


def test_the_reference_names_every_command_and_operation(site: Path) -> None:
    commands = (site / "reference/commands/index.html").read_text(encoding="utf-8")
    assert all(f"memx {name}" in commands for name in ("dev", "demo", "watch", "api-keys create"))
    operations = json.loads((site / "openapi.json").read_text())["paths"]
    page = (site / "reference/http/index.html").read_text(encoding="utf-8")
    for path, methods in operations.items():
        assert all(f"{method.upper()} {path}" in page for method in methods)


@pytest.fixture(scope="module")
def asyncapi(site: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((site / "asyncapi.json").read_text(encoding="utf-8"))
    return document


def test_asyncapi_has_a_message_for_every_request_of_a_socket(asyncapi: dict[str, Any]) -> None:
    requests = {name for name in asyncapi["components"]["messages"] if name.endswith("_request")}
    assert requests == {f"{name}_request" for name in {*BY_NAME, *CONTROLS}}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(asyncapi)):
        place: Any = asyncapi
        for part in reference.split("/"):
            place = place[part]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: str(frame["op"]))
def test_a_frame_is_what_asyncapi_says(asyncapi: dict[str, Any], frame: dict[str, Any]) -> None:
    message = asyncapi["components"]["messages"].get(f"{frame['op']}_request")
    if message is None:
        assert frame["op"] == "nonsense"
        return
    schema = {**message["payload"], "components": asyncapi["components"]}
    jsonschema.validate(frame, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**frame, "unheard_of": 1}, schema)
