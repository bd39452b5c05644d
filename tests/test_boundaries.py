"""The repository's walls: which part may import which, how long a file and a function may grow."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tools import house

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "memx_sdk": ROOT,
    "memx_server": ROOT / "server",
    "langchain_memx": ROOT / "integrations/langchain",
    "autogen_memx": ROOT / "integrations/autogen",
    "memx_mcp": ROOT / "integrations/mcp",
}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50
MAX_MODULES = 15
PRIVATE_WORDS = re.compile("told|said|wish|desk|judg|ledger|outbox", re.IGNORECASE)

DATABASES = {"redis", "hiredis", "sqlite3"}
CLIENTS = {"httpx", "websockets"}
NETWORK = DATABASES | CLIENTS | {"aiohttp", "fastapi", "http", "requests", "select", "selectors"}
NETWORK |= {"smtplib", "socket", "ssl", "starlette", "subprocess", "supabase", "urllib3", "uvicorn"}
SDK_TRANSPORTS = ("memx_sdk._async.transports", "memx_sdk._sync.transports", "memx_sdk.http_errors")
RUNTIMES = {"anyio", "asyncio", "threading", "time"}

FRAMEWORKS = {
    "langchain_memx": {"langchain", "langchain_core", "langgraph"},
    "autogen_memx": {"autogen_agentchat", "autogen_core"},
    "memx_mcp": {"mcp", "mcp_types"},
}
SERVER_LAYERS = ("auth", "domain", "routes", "storage")


@dataclass(frozen=True)
class Import:
    """One imported module or name; ``module`` is where it is written, ``target`` what it names."""

    module: str
    target: str
    line: int

    def within(self, *prefixes: str) -> bool:
        """Tell whether it is written in one of these modules or packages."""
        return any(f"{self.module}.".startswith(f"{prefix}.") for prefix in prefixes)

    def names(self, *prefixes: str) -> bool:
        """Tell whether it imports one of these modules or something in them."""
        return any(f"{self.target}.".startswith(f"{prefix}.") for prefix in prefixes)

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def test_routes_never_import_storage() -> None:
    assert_none(
        each
        for each in imports()
        if each.within("memx_server.routes") and each.names("memx_server.storage")
    )


def test_only_storage_imports_a_database_driver() -> None:
    assert_none(
        each
        for each in imports()
        if each.top in DATABASES and not each.within("memx_server.storage")
    )


def test_only_the_sdks_transport_imports_an_http_or_websocket_client() -> None:
    assert_none(
        each for each in imports() if each.top in CLIENTS and not each.within(*SDK_TRANSPORTS)
    )


def test_protocol_and_core_are_free_of_io_and_of_any_runtime() -> None:
    assert_none(
        each
        for each in imports()
        if each.within("memx_sdk.protocol", "memx_sdk.core") and each.top in NETWORK | RUNTIMES
    )


def test_the_protocol_depends_on_nothing() -> None:
    assert_none(
        each
        for each in imports()
        if each.within("memx_sdk.protocol")
        and each.top not in sys.stdlib_module_names
        and not each.names("memx_sdk.protocol")
    )


def test_the_domain_does_no_io_and_knows_of_the_store_only_its_protocol() -> None:
    allowed = ("memx_server.storage.base", "memx_server.storage.encoding")
    assert_none(
        each
        for each in imports()
        if each.within("memx_server.domain")
        and (
            each.top in NETWORK
            or each.names("memx_server.routes", "memx_server.auth", "memx_server.app")
            or (each.names("memx_server.storage") and not each.names(*allowed))
        )
    )


def test_the_memory_and_the_feed_do_not_know_of_each_other() -> None:
    memory, feed = "memx_server.domain.memory", "memx_server.domain.feed"
    assert_none(
        each
        for each in imports()
        if (each.within(memory) and each.names(feed)) or (each.within(feed) and each.names(memory))
    )


def test_the_servers_layers_know_of_the_sdk_only_the_protocol() -> None:
    layers = [f"memx_server.{layer}" for layer in SERVER_LAYERS]
    assert_none(
        each
        for each in imports()
        if each.within(*layers) and each.top == "memx_sdk" and not each.names("memx_sdk.protocol")
    )


def test_each_distribution_uses_only_the_public_face_of_another() -> None:
    assert_none(
        each
        for each in imports()
        if each.top in PACKAGES
        and not each.within(each.top)
        and any(part.startswith("_") for part in each.target.split("."))
    )


def test_the_sdk_imports_neither_server_nor_integration() -> None:
    others = PACKAGES.keys() - {"memx_sdk"}
    assert_none(each for each in imports() if each.within("memx_sdk") and each.top in others)


def test_the_server_enters_the_mcp_integration_by_its_front_door() -> None:
    assert_none(
        each
        for each in imports()
        if each.within("memx_server")
        and each.top in FRAMEWORKS
        and each.target not in {"memx_mcp", "memx_mcp.create_app"}
    )


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_an_integration_imports_the_sdk_and_its_own_framework_only(package: str) -> None:
    strangers = PACKAGES.keys() - {package, "memx_sdk"}
    strangers |= set().union(*(FRAMEWORKS[other] for other in FRAMEWORKS if other != package))
    assert_none(
        each
        for each in imports()
        if each.within(package)
        and (each.top in strangers or each.top in NETWORK - {"starlette", "uvicorn"})
    )


def test_memory_and_feed_do_not_know_each_other() -> None:
    memory, feed = "memx_server.domain.memory", "memx_server.domain.feed"
    assert_none(
        each
        for each in imports()
        if (each.within(memory) and each.names(feed)) or (each.within(feed) and each.names(memory))
    )


def test_routes_never_reach_the_store_by_an_attribute() -> None:
    crossed = [
        f"{module.name}:{node.lineno} reaches .{node.attr}"
        for module in house.modules(ROOT)
        if f"{module.name}.".startswith("memx_server.routes.")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"store", "_store", "storage"}
    ]
    assert not crossed, "\n".join(["a wall is crossed:", *crossed])


def test_no_module_imports_itself_through_others() -> None:
    circles = house.circles(house.modules(ROOT))
    assert not circles, "\n".join(["modules in a circle:", *map(", ".join, circles)])


def test_a_package_holds_few_modules() -> None:
    large = {
        name: count
        for name, count in house.packages(house.modules(ROOT)).items()
        if count > MAX_MODULES
    }
    assert not large, f"over {MAX_MODULES} modules; which ideas are in it? {large}"


@pytest.mark.parametrize("distribution", house.DISTRIBUTIONS)
def test_a_class_name_has_one_meaning(distribution: str) -> None:
    homes = house.class_homes(house.modules(ROOT))[distribution]
    several = {name: places for name, places in homes.items() if len(places) > 1}
    assert not several


@pytest.mark.parametrize("distribution", house.DISTRIBUTIONS)
def test_class_names_are_the_fields_words(distribution: str) -> None:
    homes = house.class_homes(house.modules(ROOT))[distribution]
    private = {name for name in homes if PRIVATE_WORDS.search(name)}
    assert not private, f"docs/glossary.md has the field's words for {private}"


def test_folders_are_no_import_names() -> None:
    assert_none(each for each in imports() if each.top in {"server", "integrations"})


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in written_files()}
    long = {show(path): length for path, length in lengths.items() if length > MAX_FILE_LINES}
    assert not long, f"over {MAX_FILE_LINES} lines; which two things is each? {long}"


def test_functions_stay_short() -> None:
    long = {
        f"{show(path)}:{function.lineno} {function.name}": length
        for path in written_files()
        for function, length in functions(path)
        if length > MAX_FUNCTION_LINES
    }
    assert not long, f"over {MAX_FUNCTION_LINES} lines; which two things is each? {long}"


def assert_none(found: Iterator[Import]) -> None:
    crossed = [str(each) for each in found]
    assert not crossed, "\n".join(["a wall is crossed:", *crossed])


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the five packages, those inside functions and for typing included."""
    return tuple(
        found
        for package, base in PACKAGES.items()
        for path in sorted((base / package).rglob("*.py"))
        for found in imports_of(path, base)
    )


def imports_of(path: Path, base: Path) -> Iterator[Import]:
    parts = path.relative_to(base).with_suffix("").parts
    module = ".".join(parts).removesuffix(".__init__")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            source = ".".join(filter(None, (source, node.module)))
            yield from (
                Import(module, f"{source}.{alias.name}", node.lineno) for alias in node.names
            )


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """The functions of a file and the lines of each body without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield node, (body[-1].end_lineno or 0) - body[0].lineno + 1


@cache
def written_files() -> tuple[Path, ...]:
    """The Python files that people write: all but the generated half of the SDK."""
    folders = [base / package for package, base in PACKAGES.items()]
    folders += [ROOT / name for name in ("tests", "tools", "examples", "benchmarks")]
    found = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    return tuple(path for path in found if "_sync" not in path.parts)


def show(path: Path) -> str:
    return str(path.relative_to(ROOT))
