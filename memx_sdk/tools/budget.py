"""The budget of an answer: what a model is shown of long values and lists, and how it gets the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from memx_sdk.errors import InvalidRequestError
from memx_sdk.tools.json_value import one_line
from memx_sdk.tools.results import ChangeResult, ValuePart

MAX_CHARACTERS: Final = 60_000
"""About 20,000 tokens: what hosts let through, and what leaves a model room for its work."""

ABOUT: Final = 1000
"""What is set aside for the members of an answer beside its values."""

_SHOWN_MEMBERS: Final = 10


def size_of(value: Any) -> int:
    """Return how many characters a value takes in an answer."""
    return len(one_line(value))


@dataclass(frozen=True)
class Piece:
    """As much of a value as fits.

    Attributes:
        members: ``value`` where anything is shown, ``part`` where it is not all, ``note`` for the model.
    """

    members: dict[str, Any]


def piece_of(value: Any, path: str | None, start: int, budget: int, *, tool: str) -> Piece:
    """Take from ``value`` what fits into ``budget``.

    Args:
        value: What a key holds.
        path: JSON Pointer (RFC 6901) of the part that is wanted; None for the whole.
        start: The first item of a list, member of an object or character of a text that is wanted.
        budget: Characters.
        tool: The tool that reads on, for the note.

    Raises:
        InvalidRequestError: There is nothing at ``path``, or it has no parts for ``start`` to count.
    """
    found = _at(value, path or "")
    if not start and size_of(found) <= budget:
        return Piece({"value": found})
    if isinstance(found, str):
        return _part_of_text(found, start, budget, tool)
    if isinstance(found, (list, dict)):
        return _part_of_children(found, path or "", start, budget, tool)
    if start:
        raise InvalidRequestError(
            "invalid_request",
            f"start counts items, members or characters; there is {_kind(found)} here",
        )
    return Piece({"value": found})


def _part_of_text(text: str, start: int, budget: int, tool: str) -> Piece:
    shown = text[start : start + budget]
    # Escapes make an answer longer than the text; each turn shortens what is shown by that much.
    while (size := size_of(shown)) > budget and len(shown) > 1:
        shown = shown[: max(1, len(shown) * budget // size - 1)]
    end = start + len(shown)
    part = ValuePart(of="characters", start=start, end=end, total=len(text))
    return _piece({"value": shown}, part, end < len(text), tool)


def _part_of_children(
    found: list[Any] | dict[str, Any], path: str, start: int, budget: int, tool: str
) -> Piece:
    is_list = isinstance(found, list)
    children = list(enumerate(found)) if isinstance(found, list) else list(found.items())
    end, used = start, 2
    for name, child in children[start:]:
        used += size_of(child) + 2 + (0 if is_list else size_of(name) + 2)
        if used > budget:
            break
        end += 1
    of: Literal["items", "members"] = "items" if is_list else "members"
    part = ValuePart(of=of, start=start, end=end, total=len(children))
    if end > start or end >= len(children):
        shown = children[start:end]
        value: Any = [child for _, child in shown] if is_list else dict(shown)
        return _piece({"value": value}, part, end < len(children), tool)
    # Not even one fits. Nothing is shown in its place, since that could pass for the value: it has a path of its own.
    part.too_large = f"{path}/{_token(children[start][0])}"
    part.end = start + 1
    return _piece({}, part, part.end < len(children), tool)


def _piece(members: dict[str, Any], part: ValuePart, more: bool, tool: str) -> Piece:
    said: list[str] = []
    if part.too_large:
        said.append(
            f"One is too large to be shown: call {tool} with path {one_line(part.too_large)}."
        )
    else:
        said.append(f"These are {part.of} {part.start} to {part.end - 1} of {part.total}.")
    if more:
        part.next = part.end
        said.append(f"For the rest call {tool} with start {part.next}.")
    return Piece({**members, "part": part, "note": " ".join(said)})


def _at(value: Any, path: str) -> Any:
    """Follow a JSON Pointer."""
    if path and not path.startswith("/"):
        raise InvalidRequestError(
            "invalid_request", "path must be a JSON Pointer: it begins with /, as in /steps/0"
        )
    # RFC 6901, section 4: `~1` first, or `~01` would become a slash.
    for token in path.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and _is_index(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise InvalidRequestError(
                "invalid_request",
                f"the value has nothing at {one_line(path)}: {one_line(name)} is not in {_kind(value)}",
            )
    return value


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 16


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        names = [one_line(name[:50]) for name in list(value)[:_SHOWN_MEMBERS]]
        more = " and more" if len(value) > _SHOWN_MEMBERS else ""
        return (
            f"an object with the members {', '.join(names)}{more}" if names else "an empty object"
        )
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    return "a text" if isinstance(value, str) else one_line(value)[:50]


def _token(name: str | int) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def changes_that_fit(changes: Sequence[ChangeResult], budget: int) -> list[ChangeResult]:
    """Take the first changes that fit; at least one, whose value is left out where it is too large."""
    shown: list[ChangeResult] = []
    left = budget
    for change in changes:
        size = size_of(_dumped(change)) + 2
        if left < size <= budget:
            break  # the next answer has room for it
        if size > budget:
            change = without_value(change)
            size = size_of(_dumped(change)) + 2
            if size > left and shown:
                break
        left -= size
        shown.append(change)
    return shown


def without_value(change: ChangeResult) -> ChangeResult:
    """Return a change with the length of its value in place of the value."""
    members = change.model_dump(exclude_unset=True)
    characters = size_of(members.pop("value", None))
    return ChangeResult.model_validate({**members, "characters": characters})


def results_that_fit(results: Iterable[dict[str, Any]], budget: int) -> Iterator[dict[str, Any]]:
    """Yield every result, with the length of a value in its place where it does not fit any more."""
    for result in results:
        size = size_of(result)
        if size > budget and "value" in result:
            rest = {name: member for name, member in result.items() if name != "value"}
            result = {**rest, "characters": size_of(result["value"])}
            size = size_of(result)
        budget -= size
        yield result


def errors_that_fit(errors: Iterable[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Take the first errors that fit."""
    shown: list[dict[str, Any]] = []
    for error in errors:
        budget -= size_of(error)
        if budget < 0:
            break
        shown.append(error)
    return shown


def _dumped(change: ChangeResult) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude_unset=True)
