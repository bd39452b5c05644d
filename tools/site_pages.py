"""What the documentation's site has beside docs/: pages of other folders, and references made from the code.

MkDocs runs these functions as hooks (mkdocs.yml). Links between files of the repository become links between pages; one
to a file that is no page leads to the repository, or is plain words while project.toml names no address.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# MkDocs runs this file by its path.
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from tools import project as facts  # noqa: E402 - the path above comes first
from tools import reference  # noqa: E402 - likewise

ROOT = facts.ROOT
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security.md",
    "VERSIONING.md": "versions.md",
    "server/README.md": "server.md",
    "integrations/langchain/README.md": "frameworks/langchain.md",
    "integrations/autogen/README.md": "frameworks/autogen.md",
    "integrations/mcp/README.md": "frameworks/mcp.md",
}
"""Pages that are files elsewhere in the repository."""
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(
    r"(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!\w+:|#)[^)#\s]+)(?P<anchor>#[^)\s]+)?\)"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the addresses from project.toml."""
    project = facts.Project.read()
    config.site_url = f"{project.documentation}/" if project.documentation else ""
    config.repo_url = project.repository or None
    if config.nav:
        config.nav += _left_out(list(_pages(config.nav)))
    return config


def _left_out(named: list[str]) -> list[dict[str, list[str]]]:
    """Return a section of the pages of docs/ that the navigation does not name, so that none is lost."""
    docs = ROOT / "docs"
    pages = sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))
    more = [page for page in pages if page not in named]
    return [{"More": more}] if more else []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and those that are made."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for name, text in reference.pages():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page where they lead on the site."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    repository = facts.Project.read()
    return LINK.sub(lambda link: _moved(link, source, here, repository), markdown)


def _moved(link: re.Match[str], source: str, here: str, repository: facts.Project) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["target"]))
    anchor = link["anchor"] or ""
    if source.startswith("docs/") and (here.startswith("reference/") or target.startswith("docs/")):
        return link[0]
    page = PAGES.get(target) or (
        target.removeprefix("docs/") if target.startswith("docs/") else None
    )
    if page:
        relative = posixpath.relpath(page, posixpath.dirname(here) or ".")
        return f"{link['bang']}[{link['text']}]({relative}{anchor})"
    if repository.repository:
        return f"[{link['text']}]({repository.file_url(target)}{anchor})"
    return link["text"]


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Drop the colons by which a docstring begins an example: its own paragraph is a word in another markup."""
    return html.replace("<p>::</p>", "")


def on_post_build(config: MkDocsConfig) -> None:
    """Write what programs read: llms.txt, the pages as one text, OpenAPI and AsyncAPI."""
    site = Path(config.site_dir)
    order = list(_sources(config.nav or []))
    (site / "llms.txt").write_text(_llms(order), encoding="utf-8")
    (site / "llms-full.txt").write_text(
        "\n\n".join(_text(page) for page in order), encoding="utf-8"
    )
    for name, document in (("openapi", reference.openapi()), ("asyncapi", reference.asyncapi())):
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (site / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _sources(nav: Any) -> Iterator[str]:
    """Yield the pages of the navigation that are written by hand, in order."""
    return (page for page in _pages(nav) if not page.startswith("reference/"))


def _pages(nav: Any) -> Iterator[str]:
    """Yield the pages of the navigation, in order."""
    if isinstance(nav, str):
        yield nav
        return
    for each in nav.values() if isinstance(nav, dict) else nav:
        yield from _pages(each)


def _text(page: str) -> str:
    return (ROOT / SOURCES.get(page, f"docs/{page}")).read_text(encoding="utf-8").strip()


def _llms(pages: list[str]) -> str:
    """Return llms.txt: what this is, and each page with its first sentence, for a model that looks for one of them."""
    base = facts.Project.read().documentation
    lines = ["# memX", "", "> Shared memory for teams of LLM agents.", "", "## Pages", ""]
    for page in pages:
        title, _, rest = _text(page).partition("\n")
        body = re.sub(r"<!--.*?-->|```.*?```|^[>#|!].*?$", "", rest, flags=re.S | re.M)
        body = re.sub(r"\[([^\]]*)\]\([^)]*\)|\*\*", r"\1", body)
        first = re.split(r"(?<=[.:])\s", " ".join(body.split()), maxsplit=1)[0]
        url = "" if page == "index.md" else re.sub(r"(/README)?\.md$", "/", page)
        address = f"{base}/{url}" if base else f"{url or './'}"
        lines.append(f"- [{title.lstrip('# ')}]({address}): {first}")
    lines += [
        "",
        "## Programs read",
        "",
        "- [OpenAPI](openapi.json)",
        "- [AsyncAPI](asyncapi.json)",
        "",
    ]
    return "\n".join([*lines, "- [All pages as one text](llms-full.txt)", ""])
