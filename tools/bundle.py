"""Write the bundle for Claude Desktop, ``build/memx.mcpb``: ``make bundle``.

It is an archive with a manifest, an icon, and a program of two lines; the host's own uv installs memx-mcp of this
version when the bundle is added. So it is the same on every platform, and holds no copy of other people's packages.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "integrations/mcp/bundle"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Two builds of one version are the same bytes."""

PYPROJECT = """[project]
name = "memx-bundle"
version = "{version}"
requires-python = ">=3.11"
dependencies = ["memx-mcp=={version}"]
"""


def main(target: Path) -> None:
    """Write the bundle to ``target``."""
    sys.path.insert(0, str(ROOT))
    from tools.project import Project

    version = Project.read().version
    files = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.is_file()}
    files["pyproject.toml"] = PYPROJECT.format(version=version).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(target, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(ZipInfo(name, EPOCH), content, compress_type=ZIP_DEFLATED)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/memx.mcpb")
