"""Errors that a user can act on."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message names the file or field, what was found and what was expected. The command line
    prints it as one line and ends with exit status 2.
    """


class NonFiniteError(ArithmeticError):
    """A computation that must be finite gave NaN or infinity."""


class DamagedError(InputError):
    """A file that this package wrote is not as it was written."""
