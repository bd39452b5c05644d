"""What catalogues of MCP servers are given: server.json and the bundle for Claude Desktop."""

from __future__ import annotations

import base64
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote
from zipfile import ZipFile

from tests.packaging.conftest import ROOT

MCP = ROOT / "integrations/mcp"
VERSION = tomllib.loads((ROOT / "project.toml").read_text(encoding="utf-8"))["version"]


def test_the_bundle_starts_the_server_of_its_version(tmp_path: Path) -> None:
    for name in ("first", "second"):
        command = [sys.executable, "tools/bundle.py", str(tmp_path / name)]
        subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with ZipFile(tmp_path / "first") as archive:
        archive.extractall(tmp_path / "bundle")
    bundle = tmp_path / "bundle"
    assert {path.name for path in bundle.iterdir()} == {
        "manifest.json",
        "icon.png",
        "server.py",
        "pyproject.toml",
    }
    required = tomllib.loads((bundle / "pyproject.toml").read_text())["project"]["dependencies"]
    assert required == [f"memx-mcp=={VERSION}"]
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == VERSION
    program, *_ = [word for word in manifest["server"]["mcp_config"]["args"] if ".py" in word]
    shown = subprocess.run(
        [sys.executable, bundle / program, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "usage:" in shown
    assert "--agent" in shown


def test_the_bundle_asks_a_person_for_what_it_uses() -> None:
    manifest = json.loads((MCP / "bundle/manifest.json").read_text(encoding="utf-8"))
    used = json.dumps(manifest["server"])
    for name, asked in manifest["user_config"].items():
        assert f"${{user_config.{name}}}" in used
        assert asked["title"]
    assert manifest["user_config"]["api_key"]["sensitive"] is True


def test_the_install_links_hold_a_configuration_that_starts() -> None:
    readme = (MCP / "README.md").read_text(encoding="utf-8")
    (cursor,) = re.findall(r"\(https://cursor\.com/\S+config=([^)]+)\)", readme)
    (code,) = re.findall(r"\(https://insiders\.vscode\.dev/\S+config=([^)]+)\)", readme)
    for config in (base64.b64decode(unquote(cursor)).decode(), unquote(code)):
        found = json.loads(config)
        assert found["command"] == "uvx"
        program, *arguments = found["args"]
        command = [Path(sys.executable).with_name(program), *arguments, "--help"]
        assert subprocess.run(command, capture_output=True, check=True).stdout
        assert found["env"].keys() == {"MEMX_API_KEY", "MEMX_BASE_URL"}


def test_server_json_gets_its_name_with_the_address() -> None:
    """The MCP registry gives names to owners of repositories: until there is one, none is invented."""
    project = runpy.run_path(str(ROOT / "tools/project.py"))
    text = (MCP / "server.json").read_text(encoding="utf-8")
    made_up = project["Project"]("9.9.9", "https://github.com/somebody/memx", "", ["3.11"])
    entry = json.loads(project["registry_entry"](text, made_up))
    assert entry["name"] == "io.github.somebody/memx-mcp"
    assert entry["packages"][0]["version"] == entry["version"] == "9.9.9"
    assert len(entry["description"]) <= 100
    readme = (MCP / "README.md").read_text(encoding="utf-8")
    assert f"<!-- mcp-name: {entry['name']} -->" in project["mcp_readme"](readme, made_up)
    if not project["Project"].read().repository:
        assert "name" not in json.loads(text)
        assert "mcp-name" not in readme


def test_the_provider_page_imports_what_exists() -> None:
    page = (ROOT / "docs/catalogues/langchain.mdx").read_text(encoding="utf-8")
    imports = re.findall(r"^from langchain_memx import .*$", page, re.MULTILINE)
    assert len(imports) >= 5
    for line in imports:
        exec(line, {})
