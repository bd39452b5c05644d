"""What a user downloads: five distributions, each with its own import package and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path
from typing import Any

import memx_server
import pytest
from packaging.requirements import Requirement

import memx_sdk
from tests.packaging.conftest import FOLDERS, ROOT, Distribution

pytestmark = pytest.mark.timeout(120)

ALIASES = {
    "server": "memx-server",
    "langchain": "langchain-memx",
    "autogen": "autogen-memx",
    "mcp": "memx-mcp",
}
CLIENT = {"memx-sdk", "httpx", "msgspec", "websockets"}
UNDER_HTTPX = {"anyio", "certifi", "h11", "httpcore", "idna", "sniffio", "typing-extensions"}

Built = dict[str, Distribution]


@pytest.fixture(params=FOLDERS)
def distribution(request: pytest.FixtureRequest, distributions: Built) -> Distribution:
    return distributions[request.param]


def test_a_wheel_holds_exactly_its_own_package(distribution: Distribution) -> None:
    tops = {path.split("/")[0] for path in distribution.files}
    version = distribution.project["version"]
    assert tops == {distribution.package, f"{distribution.package}-{version}.dist-info"}


def test_a_wheel_is_typed_and_licensed(distribution: Distribution) -> None:
    assert f"{distribution.package}/py.typed" in distribution.files
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in distribution.files)
    assert distribution.metadata["License-Expression"] == "MIT"


def test_a_wheel_holds_every_file_of_its_package(distribution: Distribution) -> None:
    folder = FOLDERS[distribution.name]
    written = [path for path in (folder / distribution.package).rglob("*") if path.is_file()]
    listed = {str(path.relative_to(folder)) for path in written if path.suffix != ".pyc"}
    assert listed <= set(distribution.files)


def test_an_sdist_holds_the_package_and_what_describes_it(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    described = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore", "CHANGELOG.md"}
    assert distribution.package in tops
    assert tops - described == {distribution.package}


def test_the_metadata_tells_a_reader_what_it_is(distribution: Distribution) -> None:
    metadata = distribution.metadata
    assert metadata["Name"] == distribution.name
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["Author"] == "The memX maintainers"


@pytest.fixture(scope="module")
def project() -> Any:
    return runpy.run_path(str(ROOT / "tools/project.py"))


LOCAL_LINK = re.compile(r"\]\((?!https?://|mailto:|#)")


def test_its_long_description_leads_nowhere_wrong(distribution: Distribution) -> None:
    """A package index has no files beside it, so a link into the repository is absolute or plain words."""
    text = str(distribution.metadata.get_payload())
    assert f"# {'memX' if distribution.name == 'memx-sdk' else distribution.name}" in text
    assert not LOCAL_LINK.search(text)
    assert "<!--" not in re.sub(r"<!-- mcp-name: .*? -->", "", text)
    assert "Nothing is released" not in text


def test_what_project_toml_says_is_said_everywhere(project: Any) -> None:
    """``make project`` writes it; the version, the exact requirements, the addresses, the Pythons."""
    said = project["Project"].read()
    for path, text in project["written"](said):
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: make project"
    assert memx_sdk.__version__ == memx_server.__version__ == said.version


def test_an_address_reaches_every_distribution(project: Any, tmp_path: Path) -> None:
    """With an address in place of the empty one, each gets its links, and its pictures and pages become absolute."""
    made_up = project["Project"](
        "9.9.9", "https://example.org/a/b", "https://example.org/docs", ["3.11"]
    )
    for name, folder in project["DISTRIBUTIONS"].items():
        text = project["pyproject"]((ROOT / folder / "pyproject.toml").read_text(), folder, made_up)
        document = tomllib.loads(text)
        assert document["project"]["version"] == "9.9.9"
        assert document["project"]["urls"]["Source"] == "https://example.org/a/b"
        assert f"{name}==0.2.0" not in text
        long = (ROOT / folder / "README.md").read_text(encoding="utf-8")
        for rule in document["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"][
            "substitutions"
        ]:
            long = re.sub(rule["pattern"], rule["replacement"], long)
        assert not LOCAL_LINK.search(long)
        where = "" if folder == "." else f"{folder}/"
        if re.search(r"\]\(\.\./|\]\(docs/", (ROOT / folder / "README.md").read_text()):
            assert f"https://example.org/a/b/blob/v9.9.9/{where}" in long


def test_the_index_would_take_them(distributions: Built) -> None:
    files = [str(path) for each in distributions.values() for path in (each.wheel, each.sdist)]
    shown = run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=ROOT)
    assert shown.count("PASSED") == len(files)


def test_all_share_one_version_and_require_each_other_exactly(distributions: Built) -> None:
    versions = {each.metadata["Version"] for each in distributions.values()}
    assert len(versions) == 1
    (version,) = versions
    assert version >= "0.2.0"
    for each in distributions.values():
        own = [Requirement(text) for text in each.requirements]
        for requirement in own:
            if requirement.name in FOLDERS:
                assert str(requirement.specifier) == f"=={version}", f"{each.name}: {requirement}"


def test_every_part_requires_the_sdk(distributions: Built) -> None:
    for each in distributions.values():
        if each.name != "memx-sdk":
            required = [Requirement(text) for text in each.requirements]
            assert any(r.name == "memx-sdk" and r.marker is None for r in required), each.name


def test_the_sdks_extras_are_aliases_of_the_parts(distributions: Built) -> None:
    by_extra: dict[str, set[str]] = {}
    for text in distributions["memx-sdk"].requirements:
        requirement = Requirement(text)
        if requirement.marker:
            extra = re.search(r"extra == '(\w+)'", str(requirement.marker).replace('"', "'"))
            assert extra
            by_extra.setdefault(extra[1], set()).add(requirement.name)
    assert {extra: by_extra[extra] for extra in ALIASES} == {k: {v} for k, v in ALIASES.items()}
    assert by_extra["all"] == {*ALIASES.values(), *by_extra["cli"]}


def test_every_entry_point_exists(distribution: Distribution) -> None:
    groups = {"console_scripts": distribution.project.get("scripts", {})}
    groups |= distribution.project.get("entry-points", {})
    for target in (target for group in groups.values() for target in group.values()):
        assert importlib.util.find_spec(target.partition(":")[0]), target


def test_the_sdk_alone_installs_and_imports_into_a_clean_environment(
    distributions: Built, tmp_path: Path
) -> None:
    venv.create(tmp_path / "clean", with_pip=False)
    python = str(tmp_path / "clean/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = ["install", "-qq", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    run(*pip, *install, str(distributions["memx-sdk"].wheel), cwd=tmp_path)
    listed = json.loads(run(*pip, "list", "--format=json", cwd=tmp_path))
    assert {item["name"].replace("_", "-").lower() for item in listed} - UNDER_HTTPX == CLIENT

    program = "import memx_sdk, sys; memx_sdk.memxContext; print(*sys.modules)"
    tops = {name.partition(".")[0] for name in run(python, "-c", program, cwd=tmp_path).split()}
    foreign = {name for name in tops - sys.stdlib_module_names if not name.startswith("_")}
    allowed = {name.replace("-", "_") for name in CLIENT | UNDER_HTTPX}
    assert foreign <= allowed
    assert "memx_sdk" in foreign


def test_make_the_pins_and_the_handbook_agree_on_what_is_installed() -> None:
    script = (ROOT / "tools/environment.sh").read_text(encoding="utf-8").partition("test) ")[2]
    handbook = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("pip install")[2]
    pin = runpy.run_path(str(ROOT / "tools/pin.py"))["DISTRIBUTIONS"]
    pinned = [f"{path}[{extras}]" if extras else path for path, extras in pin.items()]
    for text in (script.partition(";;")[0], handbook.partition("```")[0]):
        assert re.findall(r"-e '?([^' \n]+)'?", text) == pinned
        assert "--group dev" in text


def test_everything_installed_for_development_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {Requirement(line).name for line in lines if not line.startswith("#")}
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    root = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = root["dependency-groups"].values()
    wanted = {text for group in groups for text in group if isinstance(text, str)}
    for folder in FOLDERS.values():
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        wanted.update(project.get("dependencies", []))
        wanted.update(t for e in project.get("optional-dependencies", {}).values() for t in e)
    names = {Requirement(text).name.lower() for text in wanted}
    assert names - pinned - FOLDERS.keys() == set()


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
