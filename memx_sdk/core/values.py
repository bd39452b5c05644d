"""Python values to JSON text and back, exactly or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Final, cast

import msgspec

from memx_sdk.errors import InvalidRequestError, ModelError

_MAY_BE_NO_NUMBER: Final = (b"null", b"NaN", b"Infinity")
"""The words that the encoder writes for a number that JSON does not have."""


keep_digits: ContextVar[bool] = ContextVar("keep_digits", default=False)
"""Whether `decode` remembers how numbers were written, for a program that shows them and does not compute."""


class WrittenNumber(float):
    """A number that is encoded as it was written.

    Attributes:
        text: How it was written, such as ``1.10``.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """Read ``text``."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def encode(value: Any) -> bytes:
    """Write ``value`` as JSON text.

    Besides what JSON has, values may be or hold pydantic models, dataclasses, TypedDicts, attrs
    classes, ``Decimal`` (a number, to its last digit), dates, UUIDs, enums, sets and tuples.

    Raises:
        InvalidRequestError: ``invalid_value``: it has no exact form in JSON, such as NaN.
    """
    try:
        # Each way in which a value has no form in JSON becomes one error, raised before anything is
        # sent.
        text = _encoder.encode(value)
    except RecursionError:
        raise _invalid("it is nested too deeply, or contains itself") from None
    except UnicodeEncodeError:
        raise _invalid("a string in it holds a lone surrogate; it must be valid Unicode") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(str(error)) from None
    # The encoder writes null for NaN without a word. The search in the text is cheap and mostly
    # finds nothing; only where it does is the value walked, since null may be meant and a string
    # may say Infinity.
    if any(word in text for word in _MAY_BE_NO_NUMBER):
        _refuse_non_numbers(
            msgspec.to_builtins(value, builtin_types=(Decimal,), enc_hook=_simplify)
        )
    return text


def decode(text: bytes | str) -> Any:
    """Read JSON text; integers are exact, other numbers become floats.

    Raises:
        ValueError: It is not JSON.
    """
    # Set for the ``memx`` command alone: each number costs an object with its text.
    return _exact_decoder.decode(text) if keep_digits.get() else msgspec.json.decode(text)


def parse(text: bytes, model: Any, *, key: str) -> Any:
    """Read JSON text as what ``model`` describes.

    Args:
        text: The value.
        model: A pydantic model, a dataclass, a TypedDict or any other type made of these and the
            builtin ones, such as ``list[Decimal]``.
        key: Names the value in an error.

    Raises:
        ModelError: The value does not fit.
    """
    try:
        # From the text and not from decoded values: pydantic's rules for JSON take a text for a
        # date or for bytes.
        if _is_pydantic(model):
            return model.model_validate_json(text)
        return msgspec.json.decode(text, type=model, dec_hook=_build)
    except ValueError as error:
        name = getattr(model, "__name__", str(model))
        raise ModelError(
            "model_mismatch", f"the value of {key!r} does not fit {name}: {error}", {"key": key}
        ) from error


def schema_of(schema: Any) -> Any:
    """Return the JSON Schema of a model or another type; what is no type as it is."""
    if _is_pydantic(schema):
        return schema.model_json_schema()
    if isinstance(schema, type):
        return _with_decimals_as_numbers(msgspec.json.schema(schema))
    return schema


def _with_decimals_as_numbers(schema: Any) -> Any:
    """Describe ``Decimal`` as `encode` writes it; msgspec's own default is a string."""
    if isinstance(schema, list):
        return [_with_decimals_as_numbers(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal" and schema.get("type") == "string":
        return {**schema, "type": "number"}
    return {name: _with_decimals_as_numbers(part) for name, part in schema.items()}


def _simplify(value: Any) -> Any:
    """Return something nearer to JSON for a type that the encoder does not know."""
    if isinstance(value, msgspec.Raw):  # the encoder does; what looks for bad numbers does not
        return msgspec.json.decode(value)
    if isinstance(value, WrittenNumber):
        # Goes out as it came in: ``1.10`` as a float would be written ``1.1``.
        return msgspec.Raw(value.text.encode())
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    # Subclasses, such as numpy's ``float64`` or the strings of a framework: the encoder takes the
    # builtin types only.
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"objects of type {type(value).__name__} have no form in JSON")


def _build(kind: type, value: Any) -> Any:
    """Make what the decoder does not know: a pydantic model inside another type."""
    if _is_pydantic(kind):
        return cast("Any", kind).model_validate(value)
    raise TypeError(f"{kind!r} cannot be read from JSON")


def _is_pydantic(kind: Any) -> bool:
    """Tell whether ``kind`` is a pydantic model, without importing pydantic."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json")


def _refuse_non_numbers(value: Any, path: str = "") -> None:
    # The path is built for the message: in a large value nobody finds the one NaN otherwise.
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{value} at {path or 'its top'} is no number in JSON")
    if isinstance(value, Decimal) and not value.is_finite():
        raise _invalid(f"{value} at {path or 'its top'} is no number in JSON")
    if isinstance(value, dict):
        for name, member in value.items():
            _refuse_non_numbers(member, f"{path}/{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_numbers(item, f"{path}/{index}")


def _invalid(why: str) -> InvalidRequestError:
    return InvalidRequestError(
        "invalid_value", f"the value cannot be sent: {why}", {"field": "value"}
    )


_exact_decoder: Final = msgspec.json.Decoder(float_hook=WrittenNumber)
_encoder: Final = msgspec.json.Encoder(enc_hook=_simplify, decimal_format="number")
