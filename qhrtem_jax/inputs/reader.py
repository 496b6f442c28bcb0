"""Files of a run, each read and measured once, however many stages ask for it."""

from collections.abc import Callable, Hashable
from typing import Any


class Reader:
    """What has been read, by what was asked for, and what a user must hear of it."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Any, tuple[str, ...]]] = {}
        self._warnings: list[str] = []

    def once(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """What `read` gives, which is called for the first `key` of its kind only; what it warns
        of is said to everyone who asks."""
        if key not in self._known:
            before = len(self._warnings)
            value = read()
            self._known[key] = value, tuple(self._warnings[before:])
            return value
        value, warnings = self._known[key]
        self._warnings.extend(warnings)
        return value

    def warn(self, text: str) -> None:
        """Say something of what is read."""
        self._warnings.append(text)

    def warnings(self) -> tuple[str, ...]:
        """What was said since this was last asked."""
        said = tuple(dict.fromkeys(self._warnings))
        self._warnings.clear()
        return said
