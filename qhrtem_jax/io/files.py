"""Files that a user names: looked at before they are opened, and read up to a stated size."""

import contextlib
import errno
import stat
from collections.abc import Iterator
from pathlib import Path

from qhrtem_jax.errors import InputError

MIB = 2**20


def file_size(path: Path, option: str) -> int:
    """Bytes of the regular file `path`, which is not opened: a pipe would block, a device never
    ends. `option` is named in errors.

    **Raises:** `InputError` for what is absent, unreachable, empty or no regular file.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{option}: no file {path}") from None
    except (OSError, ValueError) as error:  # no permission, a loop of links, a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{option}: {path} cannot be opened ({reason})") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{option}: {path} is a folder, expected a file")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{option}: {path} is a pipe or a device, expected a regular file")
    if found.st_size == 0:
        raise InputError(f"{option}: {path} is empty")
    return found.st_size


@contextlib.contextmanager
def reading(path: Path, option: str) -> Iterator[None]:
    """Turns the errors of file libraries into `InputError`: each has its own, and for the user they
    all mean a damaged file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]  # one line
        raise InputError(
            f"{option}: {path} cannot be read ({type(error).__name__}: {reason})"
        ) from error


def read_bytes(path: Path, option: str, limit: int) -> bytes:
    """Content of a regular file of at most `limit` bytes.

    **Raises:** `InputError` that names the option and the file.
    """
    size = file_size(path, option)
    if size > limit:
        raise InputError(
            f"{option}: {path} has {size} bytes, expected at most {limit} ({limit / MIB:.3g} MiB)"
        )
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)  # it may have grown
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be opened ({error.strerror})") from None
    if len(content) > limit:
        raise InputError(f"{option}: {path} grows while it is read")
    return content


def read_text(path: Path, option: str, limit: int) -> str:
    """UTF-8 text of a regular file of at most `limit` bytes, without a byte order mark.

    **Raises:** `InputError` that names the option and the file.
    """
    try:
        text = read_bytes(path, option, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{option}: {path} is no readable text ({error})") from None
    if "\0" in text:
        raise InputError(f"{option}: {path} is no readable text (it holds NUL bytes)")
    return text


def number(text: str) -> float:
    """A number as tables hold it; Python's own `1_000` is none.

    **Raises:** `ValueError`.
    """
    if "_" in text:
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


def place_of(path: Path, option: str) -> Path:
    """Where `path` leads, links followed; it need not exist.

    **Raises:** `InputError` for links that lead in a circle.
    """
    try:
        return path.resolve(strict=True)
    except RuntimeError as error:  # a loop of links, until Python 3.12
        looped: Exception | None = error
    except OSError as error:
        looped = error if error.errno == errno.ELOOP else None
    if looped is not None:
        raise InputError(f"{option}: {path} is a link that leads nowhere") from None
    return path.resolve()
