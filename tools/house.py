"""Figures of the code's structure: sizes, packages, import circles, class names, comments, and the files of one write.

``python tools/house.py [FOLDER] [--trace]`` measures this checkout or another one. ``--trace`` starts that checkout's
server on a Redis of its own, and lists the files that run between a ``POST /set`` and its subscriber's socket; it
needs ``redis-server`` on PATH and the environment that ``make environment`` prepares in the checkout.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

DISTRIBUTIONS = {
    "memx-sdk": ("", "memx_sdk"),
    "memx-server": ("server", "memx_server"),
    "langchain-memx": ("integrations/langchain", "langchain_memx"),
    "autogen-memx": ("integrations/autogen", "autogen_memx"),
    "memx-mcp": ("integrations/mcp", "memx_mcp"),
}
_GENERATED = "_sync"
_DEADLINE = 30.0


class Module:
    """One Python file of a distribution, parsed.

    Attributes:
        name: Its dotted name.
        path: Where it is.
        distribution: Which distribution holds it.
        text: Its source.
        tree: Its syntax tree.
    """

    def __init__(self, name: str, path: Path, distribution: str) -> None:
        self.name = name
        self.path = path
        self.distribution = distribution
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)

    @property
    def is_package(self) -> bool:
        """Whether this is the ``__init__`` of a package."""
        return self.path.name == "__init__.py"

    @property
    def is_generated(self) -> bool:
        """Whether this file is written by ``tools/unasync.py``."""
        return _GENERATED in self.path.parts


def modules(root: Path) -> list[Module]:
    """Parse every Python file of the distributions below ``root``."""
    found = []
    for distribution, (folder, package) in DISTRIBUTIONS.items():
        base = root / folder
        for path in sorted((base / package).rglob("*.py")):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            found.append(Module(name.removesuffix(".__init__"), path, distribution))
    return found


def packages(found: list[Module]) -> Counter[str]:
    """Count the modules of each package, without its ``__init__``."""
    return Counter(
        each.name.rpartition(".")[0] for each in found if not each.is_package and "." in each.name
    )


def imports(module: Module, known: set[str]) -> Iterator[str]:
    """Yield the modules that ``module`` names in an import, lazy and type-only ones included."""
    base = module.name if module.is_package else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parts = base.split(".")
                source = ".".join(filter(None, (*parts[: len(parts) - node.level + 1], source)))
            names = [f"{source}.{alias.name}" for alias in node.names]
        for name in names:
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module.name:
                yield target


def circles(found: list[Module]) -> list[list[str]]:
    """Find the groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    known = {each.name for each in found}
    graph = {each.name: sorted(set(imports(each, known))) for each in found}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                groups.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in graph:
        if name not in index:
            visit(name)
    return sorted(groups)


def class_homes(found: list[Module]) -> dict[str, dict[str, list[str]]]:
    """Return, for each distribution, the modules that define each class name."""
    homes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        if each.is_generated:
            continue
        for node in ast.walk(each.tree):
            if isinstance(node, ast.ClassDef):
                homes[each.distribution][node.name].append(each.name)
    return homes


def comments(found: list[Module]) -> tuple[int, int]:
    """Count comment lines, and lines of code that are neither blank, comment nor docstring."""
    commented = code = 0
    for each in found:
        quiet = {
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        }
        docs = set(_docstring_lines(each.tree))
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(each.text).readline):
            if token.type == tokenize.COMMENT:
                commented += not token.string.startswith(("# noqa", "# type:", "# fmt"))
            elif token.type not in quiet:
                lines.update(range(token.start[0], token.end[0] + 1))
        code += len(lines - docs)
    return commented, code


def _docstring_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        for child in (
            getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []
        ):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                yield from range(child.lineno, (child.end_lineno or child.lineno) + 1)


def functions(found: list[Module]) -> list[tuple[int, str]]:
    """Return the lines of each function's body without its docstring, with its name."""
    sizes = []
    for each in found:
        for node in ast.walk(each.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    size = (body[-1].end_lineno or 0) - body[0].lineno + 1
                    sizes.append((size, f"{each.name}:{node.name}"))
    return sizes


def report(root: Path) -> None:
    """Print the figures of the checkout at ``root``."""
    everything = modules(root)
    found = [each for each in everything if not each.is_generated]
    print(f"modules                      {len(found)}")
    print(f"lines                        {sum(each.text.count(chr(10)) for each in found):,}")
    largest = packages(everything).most_common(5)
    print("modules per package, largest", *(f"{name} {count}" for name, count in largest), sep="  ")
    groups = circles(everything)
    print(f"import circles               {len(groups)}")
    for group in groups:
        print("   ", ", ".join(group))
    homes = class_homes(everything)
    several = [
        f"{name} ({distribution}: {len(places)})"
        for distribution, names in homes.items()
        for name, places in sorted(names.items())
        if len(places) > 1
    ]
    total = sum(map(len, homes.values()))
    print(f"class names                  {total}, of them with several meanings {len(several)}")
    if several:
        print("   ", ", ".join(several))
    commented, code = comments(found)
    print(f"comments per 100 lines       {100 * commented / code:.1f} of {code:,} lines of code")
    sizes = sorted(functions(found))
    longest = sizes[-1]
    print(
        f"functions                    {len(sizes)}, median {statistics.median(s for s, _ in sizes):g} lines, "
        f"longest {longest[0]} ({longest[1]})"
    )
    lua = sorted((root / "server").rglob("*.lua"))
    lua_lines = [line.strip() for path in lua for line in path.read_text().splitlines()]
    remarks = sum(line.startswith("--") and not line.startswith("-->") for line in lua_lines)
    print(
        f"Lua                          {len(lua)} files, comments per 100 lines "
        f"{100 * remarks / max(1, sum(bool(line) for line in lua_lines) - remarks):.1f}"
    )


# What the traced server runs: it notes the files whose functions are called between two signals.
_TRACER = """
import json, os, signal, sys, threading
seen, on = set(), False
def profile(frame, event, _):
    if on and event == "call":
        name = frame.f_code.co_filename
        if "memx_" in name:
            seen.add(name)
def start(*_):
    global on
    seen.clear(); on = True
def stop(*_):
    global on
    on = False
    with open(os.environ["HOUSE_TRACE"] + ".part", "w") as file:
        json.dump(sorted(seen), file)
    os.rename(os.environ["HOUSE_TRACE"] + ".part", os.environ["HOUSE_TRACE"])
signal.signal(signal.SIGUSR1, start); signal.signal(signal.SIGUSR2, stop)
threading.setprofile(profile); sys.setprofile(profile)
from memx_sdk.cli import main
main()
"""


def trace(root: Path) -> None:
    """Print the files that run between a ``POST /set`` and its subscriber's socket.

    Raises:
        TimeoutError: The server, or its Redis, does not get ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        redis_port, port = _free_ports(2)
        redis = subprocess.Popen(
            ["redis-server", "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            files = _traced(root, Path(folder), redis_port, port)
        finally:
            redis.terminate()
            redis.wait(_DEADLINE)
    print(f"\nfiles between POST /set and a subscriber's socket: {len(files)}")
    for name in files:
        print("   ", name)


def _traced(root: Path, folder: Path, redis_port: int, port: int) -> list[str]:
    acl = folder / "acl.json"
    acl.write_text(json.dumps({"house_key": ["*"]}))
    result = folder / "trace.json"
    path = os.pathsep.join(str(root / base) for base, _ in DISTRIBUTIONS.values())
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "HOUSE_TRACE": str(result),
    }
    server = subprocess.Popen(
        [_interpreter(root), "-c", _TRACER, "serve", "--port", str(port), "--acl", str(acl)],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _write_once(f"http://127.0.0.1:{port}", server, result)
    finally:
        server.terminate()
        server.wait(_DEADLINE)
    names: list[str] = json.loads(result.read_text())
    return sorted({str(Path(name).resolve().relative_to(root)) for name in names})


def _interpreter(root: Path) -> str:
    """Return the Python of the checkout's own environment, which knows its commands, else this one."""
    own = root / ".venv/bin/python"
    return str(own) if own.exists() else sys.executable


def _write_once(url: str, server: subprocess.Popen[bytes], result: Path) -> None:
    """Write once with a subscriber listening, after everything has been done once before."""
    from memx_sdk import memxContext

    _wait_until_ready(url)
    with memxContext("house_key", url) as memory:
        changes = memory.subscribe("house:*").ready()
        for number in range(3):
            memory.set("house:key", number)
            changes.next()
        server.send_signal(signal.SIGUSR1)
        memory.set("house:key", "traced")
        changes.next()
        server.send_signal(signal.SIGUSR2)
    _wait_for(result.exists)


def _wait_until_ready(url: str) -> None:
    import httpx

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    _wait_for(answers)


def _wait_for(happened: object) -> None:
    import time

    assert callable(happened)
    give_up = time.monotonic() + _DEADLINE
    while not happened():
        if time.monotonic() > give_up:
            raise TimeoutError("the server did not get ready")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--trace", action="store_true", help="list the files of one write")
    options = parser.parse_args()
    root = options.folder.resolve()
    report(root)
    if options.trace:
        trace(root)


if __name__ == "__main__":
    main()
