"""Errors that a user can act on."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message names the file or field, what was found and what was expected. The command line
    prints it as one line and ends with exit status 2. `faults`: the messages, where several things
    are wrong.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def raise_all(faults: Iterable[InputError]) -> None:
    """Raise what is wrong, all at once; nothing where nothing is."""
    messages = [message for fault in faults for message in fault.faults]
    if messages:
        raise InputError(*messages)


class NonFiniteError(ArithmeticError):
    """A computation that must be finite gave NaN or infinity."""


class DamagedError(InputError):
    """A file that this package wrote is not as it was written."""
