"""The keys of a collection: its head, its records, the parts of large ones, and the notes of what is to be swept."""

from __future__ import annotations

import hashlib
import re
import secrets

from memx_sdk.collections.names import name_in, record_name, record_names_prefix, segment

_DIGITS = 10
_GENERATION = re.compile(r"^[^*?\[\]]*:\^[0-9a-f]{16}:\*$")


class Layout:
    """The keys of one collection.

    ``root:name:^head`` is its head, ``root:name:^generation:...`` are the records of a generation, and
    ``root:name:^generation:^:...`` the parts of those that are too large for a value. No encoded name starts with
    ``^`` and 16 digits and none holds a colon, so no key of one collection is a key of another.

    Args:
        root: What the keys of all collections of this kind start with.
        name: The collection's name: any texts.
        plain: The records lie at ``root:name:...`` and there is no head.
        encoded: Names are the ends of keys as they are, of two characters or more, the second one no colon.
    """

    def __init__(
        self, root: str, name: tuple[str, ...], *, plain: bool = False, encoded: bool = False
    ) -> None:
        self.root = root
        self.base = ":".join([root, *map(segment, name)])
        self.head = f"{self.base}:^head"
        self.plain = plain
        self.is_encoded = encoded

    @staticmethod
    def new_generation() -> str:
        """Make a name for a generation that no other one has had."""
        return secrets.token_hex(8)

    def everything(self, generation: str) -> str:
        """The pattern of all that a generation consists of."""
        return f"{self._start(generation)}*"

    def record(self, generation: str, name: str) -> str:
        """The key of a record."""
        return f"{self._start(generation)}{name if self.is_encoded else record_name(name)}"

    def records(self, generation: str, prefix: str = "") -> str:
        """The pattern of the records whose names start with ``prefix``."""
        start = self._start(generation)
        if prefix:
            return f"{start}{prefix if self.is_encoded else record_names_prefix(prefix)}*"
        # The parts of large records start with "^:", which no record's name does.
        return f"{start}?[!:]*" if self.is_encoded else f"{start}[!^]*"

    def holds_name(self, generation: str, key: str) -> bool:
        """Whether a record's key holds its whole name; of a long one it holds a digest."""
        return self.is_encoded or "^" not in self._end(generation, key)

    def name_of(self, generation: str, key: str) -> str | None:
        """Read a record's name from its key; None where the key does not hold it, or is none of a record's."""
        end = self._end(generation, key)
        return end if self.is_encoded else name_in(end)

    def place(self, generation: str, number: int) -> str:
        """The key of a place of a log; keys list in the order of places."""
        return f"{self._start(generation)}{number:0{_DIGITS}d}"

    def places(self, generation: str) -> str:
        """The pattern of all places of a log."""
        return f"{self._start(generation)}[0-9]*"

    def index(self, generation: str, key: str) -> str:
        """The memory key that says at which place of a log the item ``key`` is."""
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        return f"{self._start(generation)}={digest}"

    def parts(self, generation: str) -> str:
        """What the keys of the parts of a generation's large records start with."""
        return f"{self._start(generation)}^:"

    def note(self, generation: str) -> str:
        """The key of the note that a generation is to be swept; the notes of a root lie together."""
        return f"{self.root}:^sweep:{generation}"

    def notes(self) -> str:
        """The pattern of all notes of the root."""
        return f"{self.root}:^sweep:*"

    def is_generation(self, pattern: object) -> bool:
        """Whether this is the pattern of a generation of a collection under the root."""
        return (
            isinstance(pattern, str)
            and pattern.startswith(f"{self.root}:")
            and _GENERATION.search(pattern) is not None
        )

    def _end(self, generation: str, key: str) -> str:
        return key[len(self._start(generation)) :]

    def _start(self, generation: str) -> str:
        return f"{self.base}:" if self.plain else f"{self.base}:^{generation}:"
