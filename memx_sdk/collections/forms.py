"""The forms in which objects are stored: one place that writes them as JSON and restores them."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from uuid import UUID

from memx_sdk.core import values

V = TypeVar("V")

_TYPE: Final = "memx:type"
"""The member that says what kind of object a JSON object stands for."""


class Form(Protocol[V]):
    """How the objects of a collection are stored.

    What ``load`` raises for a value that ``dump`` did not write (any ``ValueError``, ``TypeError``, ``LookupError``,
    ``AttributeError`` or ``ArithmeticError``) makes the value count as not there.
    """

    def dump(self, value: V) -> Any:
        """Write an object as something that has a form in JSON."""

    def load(self, stored: Any) -> V:
        """Restore an object from JSON; whoever may write the key may have put anything there."""


class JsonForm:
    """JSON as it is: what goes in as a tuple or a date comes back as a list or a text."""

    def dump(self, value: Any) -> Any:
        """See `Form.dump`."""
        return value

    def load(self, stored: Any) -> Any:
        """See `Form.load`."""
        return stored


JSON: Final = JsonForm()


class BytesForm:
    """Bytes, as base64 text."""

    def dump(self, value: bytes) -> str:
        """See `Form.dump`."""
        return base64.b64encode(value).decode()

    def load(self, stored: Any) -> bytes:
        """See `Form.load`."""
        return base64.b64decode(stored, validate=True)


class ModelForm(Generic[V]):
    """Objects of one type, stored as that type's JSON, which other programs can read too.

    Args:
        model: A pydantic model, a dataclass, a TypedDict, or a type made of these and the builtin ones.
    """

    def __init__(self, model: type[V]) -> None:
        self._model = model

    def dump(self, value: V) -> Any:
        """See `Form.dump`."""
        return value

    def load(self, stored: Any) -> V:
        """See `Form.load`."""
        return cast("V", values.parse(values.encode(stored), self._model, key="the record"))


class ObjectForm:
    """Objects of several types, each said plainly in the JSON, so that they come back as what they were.

    Known are what JSON has, bytes, dates, times and time spans, ``Decimal``, UUIDs, tuples, sets, floats without a
    number, and the pydantic models, dataclasses and enums that ``types`` names. Only these are restored: what is
    stored names a type, and nothing is imported or called that is not in the list.

    Args:
        types: Pydantic models, dataclasses and enums.

    Raises:
        TypeError: One of ``types`` is none of these, or two have the same name.
    """

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._types: dict[str, type] = {}
        for kind in types:
            if not (_is_model(kind) or dataclasses.is_dataclass(kind) or issubclass(kind, Enum)):
                raise TypeError(f"{kind!r} is no pydantic model, dataclass or enum")
            if self._types.setdefault(_name(kind), kind) is not kind:
                raise TypeError(f"two types are called {_name(kind)}")

    def dump(self, value: Any) -> Any:
        """See `Form.dump`.

        Raises:
            TypeError: It holds an object that would not be restored; the message names its type.
        """
        if value is None or isinstance(value, bool) or type(value) in (int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {_TYPE: "float", "is": str(value)}
        if type(value) is list:
            return [self.dump(each) for each in value]
        if type(value) is dict:
            return self._dump_dict(value)
        plain = _WRITERS.get(type(value))
        if plain is not None:
            return {_TYPE: type(value).__name__, "is": plain(value)}
        if type(value) in (tuple, set, frozenset):
            return {_TYPE: type(value).__name__, "is": [self.dump(each) for each in value]}
        return self._dump_known(value)

    def load(self, stored: Any) -> Any:
        """See `Form.load`."""
        if isinstance(stored, list):
            return [self.load(each) for each in stored]
        if not isinstance(stored, dict):
            return stored
        if _TYPE not in stored:
            return {name: self.load(each) for name, each in stored.items()}
        name, content = stored[_TYPE], stored["is"]
        if name in _READERS:
            return _READERS[name](content)
        if name in _GATHERED:
            return _GATHERED[name](self.load(each) for each in content)
        if name == "dict":
            return {self.load(key): self.load(each) for key, each in content}
        return self._load_known(self._types[name], content)

    def _dump_dict(self, value: Mapping[Any, Any]) -> Any:
        if all(type(name) is str for name in value) and _TYPE not in value:
            return {name: self.dump(each) for name, each in value.items()}
        pairs = [[self.dump(name), self.dump(each)] for name, each in value.items()]
        return {_TYPE: "dict", "is": pairs}

    def _dump_known(self, value: Any) -> Any:
        kind = type(value)
        if self._types.get(_name(kind)) is not kind:
            raise TypeError(
                f"objects of type {_name(kind)} are not restored by this collection; "
                f"if they are meant to be, name the type: ObjectForm([{kind.__name__}])"
            )
        if isinstance(value, Enum):
            return {_TYPE: _name(kind), "is": self.dump(value.value)}
        if _is_model(kind):
            return {_TYPE: _name(kind), "is": value.model_dump(mode="json", round_trip=True)}
        fields = {
            each.name: self.dump(getattr(value, each.name)) for each in dataclasses.fields(value)
        }
        return {_TYPE: _name(kind), "is": fields}

    def _load_known(self, kind: Any, content: Any) -> Any:
        if issubclass(kind, Enum):
            return kind(self.load(content))
        if _is_model(kind):
            return kind.model_validate_json(values.encode(content))
        given = {name: self.load(each) for name, each in content.items()}
        made = kind(**{each.name: given.pop(each.name) for each in _given_at_start(kind, given)})
        # Fields that the constructor does not take were set by the class itself, and perhaps changed later.
        for each in dataclasses.fields(kind):
            if each.name in given:
                object.__setattr__(made, each.name, given[each.name])
        return made


def _given_at_start(kind: Any, given: Mapping[str, Any]) -> list[dataclasses.Field[Any]]:
    return [each for each in dataclasses.fields(kind) if each.init and each.name in given]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_model(kind: Any) -> bool:
    """Tell whether ``kind`` is a pydantic model, without importing pydantic."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json")


_WRITERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    # Three integers, since seconds as a float would lose microseconds of long spans.
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    UUID: str,
}

_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "bytearray": lambda text: bytearray(base64.b64decode(text, validate=True)),
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
    "UUID": UUID,
    "float": float,
}

_GATHERED: Final[Mapping[str, Callable[[Iterable[Any]], Any]]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
