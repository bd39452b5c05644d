"""Write what project.toml says of the project into each file that must repeat it.

    make project                              write
    .venv/bin/python tools/project.py --check     change nothing, fail where a file says something else

The five pyproject.toml files get their version, the exact versions by which they require each other, their classifiers
of Python, ``[project.urls]`` and the rules by which a README becomes the text that a package index shows. Tools that
read a pyproject.toml find plain values there, and an sdist builds without this file.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {
    "memx-sdk": ".",
    "memx-server": "server",
    "langchain-memx": "integrations/langchain",
    "autogen-memx": "integrations/autogen",
    "memx-mcp": "integrations/mcp",
}
"""The folder of each distribution, in the order in which they are published: each requires only earlier ones."""

BEGIN, END = "# Written by tools/project.py, from here", "# to here."
NOTICE = r"(?s)<!-- until the first release -->.*?<!-- until here -->\n+"
MARKER = r"<!-- (?:shell|python): .*? -->\n"
IMAGE = r"!\[([^\]]*)\]\((?!https?://)([^)\s]+)\)"
LINK = r"(?<!!)\[([^\]]+)\]\((?!https?://|mailto:|#)([^)\s]+)\)"


@dataclass(frozen=True)
class Project:
    """The content of project.toml.

    Attributes:
        version: The version of all distributions.
        repository: The public address of the repository; empty while there is none.
        documentation: The address of the documentation; empty likewise.
        python: The versions of Python that the tests run on.
    """

    version: str
    repository: str
    documentation: str
    python: list[str]

    @classmethod
    def read(cls) -> Project:
        """Read project.toml.

        Raises:
            ValueError: An address does not begin with https:// or ends with a slash.
        """
        project = cls(**tomllib.loads((ROOT / "project.toml").read_text(encoding="utf-8")))
        for address in (project.repository, project.documentation):
            if address and (not address.startswith("https://") or address.endswith("/")):
                raise ValueError(f"{address!r} is no address as project.toml wants it")
        return project

    def file_url(self, path: str) -> str:
        """Return the address at which readers see the file ``path`` of this version."""
        return f"{self.repository}/blob/v{self.version}/{path}"


def main() -> None:
    """Write all files, or with ``--check`` name those that are stale."""
    stale = [path for path, text in written(Project.read()) if read(path) != text]
    if "--check" in sys.argv[1:]:
        sys.exit(f"stale, run `make project`: {', '.join(stale)}" if stale else 0)
    for path, text in written(Project.read()):
        (ROOT / path).write_text(text, encoding="utf-8")


def written(project: Project) -> Iterator[tuple[str, str]]:
    """Yield each file with the text that it must have, path by path."""
    for folder in DISTRIBUTIONS.values():
        path = f"{folder}/pyproject.toml".removeprefix("./")
        yield path, pyproject(read(path), folder, project)
    for path, change in OTHERS.items():
        if (ROOT / path).exists():
            yield path, change(read(path), project)


def read(path: str) -> str:
    """Read a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def pyproject(text: str, folder: str, project: Project) -> str:
    """Return the pyproject.toml of ``folder`` with what project.toml says."""
    text = re.sub(r'^version = ".*"$', f'version = "{project.version}"', text, flags=re.M)
    names = "|".join(DISTRIBUTIONS)
    text = re.sub(rf'"((?:{names})(?:\[\w+\])?)==[^"]*"', rf'"\g<1>=={project.version}"', text)
    text = re.sub(
        r'(    "Programming Language :: Python :: 3\.\d+",\n)+',
        "".join(f'    "Programming Language :: Python :: {each}",\n' for each in project.python),
        text,
    )
    text = re.sub(rf"\n*{re.escape(BEGIN)}.*{re.escape(END)}\n", "\n", text, flags=re.S)
    lines = [BEGIN, *urls(project), *long_description(folder, project), END]
    return text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"


def urls(project: Project) -> list[str]:
    """Return ``[project.urls]``: nothing while there is no address, since an invented one would lead astray."""
    found = {}
    if project.documentation:
        found["Documentation"] = project.documentation
    if project.repository:
        found["Source"] = project.repository
        found["Issues"] = f"{project.repository}/issues"
        found["Changelog"] = f"{project.repository}/blob/main/CHANGELOG.md"
    return ["[project.urls]", *(f'{name} = "{url}"' for name, url in found.items()), ""] * bool(
        found
    )


def long_description(folder: str, project: Project) -> list[str]:
    """Return the rules that make a text for a package index of a README of the repository.

    The notice that nothing is released yet is dropped: whoever reads it there holds the proof of the contrary. Links
    into the repository become absolute, or plain words while there is no address; pictures likewise, or nothing.
    """
    base = project.file_url("" if folder == "." else f"{folder}/")
    rules = [(NOTICE, ""), (MARKER, "")]
    if project.repository:
        raw = base.replace("/blob/", "/raw/")
        rules += [(IMAGE, rf"![\1]({raw}\2)"), (LINK, rf"[\1]({base}\2)")]
    else:
        rules += [(IMAGE + r"\n*", ""), (LINK, r"\1")]
    return [
        "[tool.hatch.metadata.hooks.fancy-pypi-readme]",
        'content-type = "text/markdown"',
        'fragments = [{ path = "README.md" }]',
        "substitutions = [",
        *(
            f"    {{ pattern = '{wanted}', replacement = '{instead}' }},"
            for wanted, instead in rules
        ),
        "]",
    ]


def version_module(text: str, project: Project) -> str:
    """Return ``_version.py`` with the version."""
    return re.sub(r'^__version__ = ".*"$', f'__version__ = "{project.version}"', text, flags=re.M)


def manifest(text: str, project: Project) -> str:
    """Return the manifest of the bundle for Claude Desktop with the version and the addresses."""
    document = json.loads(text)
    document["version"] = project.version
    if project.repository:
        document["repository"] = {"type": "git", "url": project.repository}
    if project.documentation:
        document["documentation"] = project.documentation
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def registry_entry(text: str, project: Project) -> str:
    """Return server.json with the version, and its name where the repository's owner is known.

    The MCP registry gives names to owners of repositories, so there is none to write before.
    """
    document = json.loads(text)
    document["version"] = document["packages"][0]["version"] = project.version
    if project.repository:
        document = {"$schema": document["$schema"], "name": mcp_name(project), **document}
        document["repository"] = {"url": project.repository, "source": "github"}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def mcp_readme(text: str, project: Project) -> str:
    """Return memx-mcp's README with the line by which the MCP registry sees that the package is ours."""
    text = re.sub(r"\n*<!-- mcp-name: .*? -->\n", "\n", text)
    return f"{text}\n<!-- mcp-name: {mcp_name(project)} -->\n" if project.repository else text


def mcp_name(project: Project) -> str:
    """Return the name in the MCP registry: io.github.OWNER/memx-mcp."""
    return f"io.github.{project.repository.rsplit('/', 2)[1]}/memx-mcp"


OTHERS: dict[str, Callable[[str, Project], str]] = {
    "memx_sdk/_version.py": version_module,
    "server/memx_server/__init__.py": version_module,
    "integrations/mcp/README.md": mcp_readme,
    "integrations/mcp/server.json": registry_entry,
    "integrations/mcp/bundle/manifest.json": manifest,
}

if __name__ == "__main__":
    main()
