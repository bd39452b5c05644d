"""The types that a checkpoint may restore: LangGraph's serialiser, held to an allow-list.

LangGraph's msgpack names the module and the class of each object, and its serialiser imports and calls what is
named. Whoever can write a record could so make the reader call anything. LangGraph's strict mode calls only what an
allow-list names, but gives the raw value in place of any other object, without an error. Here such an object is an
error, and already when it is written: a graph whose state would not come back says so at its first step, not after
a restart.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import (
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)
from pydantic import BaseModel
from typing_extensions import TypeAliasType, is_typeddict

from langchain_memx.store_items import MemxItem

_PLAIN = ("null", "bytes", "bytearray")
"""LangGraph's kinds of serialised values that name no class."""


class RefusedTypeError(TypeError):
    """A checkpoint names a type that its saver may not restore; the message says how to allow it."""


class KnownTypesSerializer(JsonPlusSerializer):
    """LangGraph's serialiser for the types that LangGraph itself calls safe, and those that are listed.

    Messages, dates, UUIDs, decimals, sets, paths and LangGraph's own types are always known.

    Args:
        types: State classes and whatever else a state may hold. What their fields declare is known with them.
        names: More types, as LangGraph lists them: ``(module, name)``.

    Raises:
        ValueError: A class cannot be restored, since it is not at the top level of its module.
    """

    def __init__(self, types: Iterable[Any] = (), *, names: Iterable[tuple[str, ...]] = ()) -> None:
        self._names = frozenset({*names, *declared_names([MemxItem, *types])})
        super().__init__(
            pickle_fallback=False,
            allowed_json_modules=None,
            allowed_msgpack_modules=tuple(self._names) or None,
        )

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Serialise ``obj``.

        Raises:
            RefusedTypeError: It holds an object that would not be restored.
        """
        kind, data = super().dumps_typed(obj)
        self._verify(kind, data)
        return kind, data

    # A caller may be any thread, and a saver is shared: nothing below keeps state between calls.

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Restore an object; nothing is imported or called before every type in it is known to be allowed.

        Raises:
            RefusedTypeError: It names a type that is not allowed.
        """
        self._verify(*data)
        return super().loads_typed(data)

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> KnownTypesSerializer:
        """Return a serialiser that knows more types, as LangGraph asks for where its strict mode is on."""
        names = {
            (each.__module__, each.__name__) if isinstance(each, type) else each
            for each in extra_allowlist
        }
        return self if names <= self._names else KnownTypesSerializer(names=names | self._names)

    def _verify(self, kind: str, data: bytes) -> None:
        """Refuse data that names what is not allowed; this restores nothing itself.

        LangGraph's decoder reads the data with a hook that notes each name in place of calling it. The hook
        cannot raise, since the decoder hides whatever a hook raises.
        """
        if kind in _PLAIN:
            return
        if kind != "msgpack":  # LangGraph's older JSON form, or pickle
            raise RefusedTypeError(f"it is serialised as {kind!r}, which this saver never restores")
        refused: dict[str, None] = {}

        def hook(code: int, payload: bytes) -> None:
            # The payload is msgpack again, with objects in it that come before this one: all of them are seen.
            named = walker.loads_typed(("msgpack", payload))
            # These two name no class: an array's type and bytes, and a snapshot's value, which was just walked.
            if code in (EXT_NUMPY_ARRAY, EXT_DELTA_SNAPSHOT):
                return
            if not self._allows(code, named):
                refused[_shown(code, named)] = None

        walker = JsonPlusSerializer(allowed_msgpack_modules=None, __unpack_ext_hook__=hook)
        walker.loads_typed((kind, data))
        if refused:
            names = ", ".join(refused)
            raise RefusedTypeError(
                f"it holds {names}, which this saver does not restore. If your program means to store that, name "
                f"its class: MemxSaver(types=[{', '.join(name.rpartition('.')[2] for name in refused)}])"
            )

    def _allows(self, code: int, named: Any) -> bool:
        if not isinstance(named, list) or not all(isinstance(part, str) for part in named[:2]):
            return False
        name = tuple(named[:2])
        # A method is called on its class, so the class alone says too little. A code that a later LangGraph may add
        # is refused until it is known here.
        if code == EXT_METHOD_SINGLE_ARG:
            return (*name, named[3]) in SAFE_MSGPACK_METHODS
        return 0 <= code <= EXT_PYDANTIC_V2 and (name in SAFE_MSGPACK_TYPES or name in self._names)


def restricted(serde: Any, types: Collection[Any]) -> Any:
    """Hold a serialiser that the user gave to the allow-list.

    Args:
        serde: LangGraph's own serialiser, also an encrypting one around it; or one of the user's, which is taken as
            it is: what it restores is its own affair.
        types: What may be restored beside LangGraph's safe types.

    Raises:
        ValueError: It falls back on pickle, which calls whatever its data names.
    """
    if serde is None:
        return KnownTypesSerializer(types)
    if isinstance(serde, EncryptedSerializer):
        return EncryptedSerializer(serde.cipher, restricted(serde.serde, types))
    if not isinstance(serde, JsonPlusSerializer) or isinstance(serde, KnownTypesSerializer):
        return serde
    # LangGraph's default allows every type, and cannot be told from a list that somebody opened on purpose: so what
    # allows everything counts as a list of nothing, and only names that were written down are taken over.
    if serde.pickle_fallback:
        raise ValueError("pickle runs what a checkpoint names: use a serialiser without it")
    listed = serde._allowed_msgpack_modules  # noqa: SLF001 - LangGraph has no public way to read its list
    return KnownTypesSerializer(types, names=listed if isinstance(listed, set) else ())


def declared_names(types: Iterable[Any]) -> set[tuple[str, str]]:
    """Collect the classes among ``types`` and those that their fields declare, as ``(module, name)``.

    Raises:
        ValueError: A class is not at the top level of its module: LangGraph looks it up there.
    """
    found: dict[tuple[str, str], None] = {}
    seen: dict[
        int, Any
    ] = {}  # the types themselves, too: an id is given again once its object is gone
    waiting: list[tuple[Any, bool]] = [(kind, True) for kind in types]
    while waiting:
        kind, listed = waiting.pop()
        if id(kind) in seen:
            continue
        seen[id(kind)] = kind
        if isinstance(kind, type) and not is_typeddict(kind) and (listed or _has_fields(kind)):
            found[_importable(kind)] = None
        waiting += [(part, False) for part in _parts(kind)]
    return set(found)


def _importable(kind: type) -> tuple[str, str]:
    if vars(sys.modules[kind.__module__]).get(kind.__name__) is not kind:
        raise ValueError(
            f"{kind.__module__}.{kind.__qualname__} cannot be restored from a checkpoint: LangGraph finds only classes "
            "at the top level of their module"
        )
    return kind.__module__, kind.__name__


def _parts(kind: Any) -> Iterator[Any]:
    """The types that a type is made of: its fields, arguments, or what it is another name for."""
    if isinstance(kind, TypeVar):
        yield from (kind.__bound__, *kind.__constraints__)
    elif isinstance(kind, TypeAliasType):
        yield kind.__value__
    elif (origin := get_origin(kind)) is not None:
        yield from (origin, *get_args(kind))
    elif hasattr(kind, "__supertype__"):  # NewType
        yield kind.__supertype__
    elif is_typeddict(kind) or _has_fields(kind):
        yield from _hints(kind).values()


def _has_fields(kind: Any) -> bool:
    """Whether LangGraph stores the objects of a class by its name: models, dataclasses, enums, named tuples."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, (BaseModel, Enum))
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError):  # a forward reference that only a type checker can see
        return {}


def _shown(code: int, named: Any) -> str:
    if not isinstance(named, list) or len(named) < 2:
        return f"an extension of type {code}"
    return ".".join(
        str(part) for part in (*named[:2], *named[3:4] * (code == EXT_METHOD_SINGLE_ARG))
    )
