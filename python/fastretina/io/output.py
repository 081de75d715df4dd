"""Writing so that a reader never sees half a file, and a failed run leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastretina.errors import InvalidInput


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: a temporary neighbour first, then one rename."""
    target = Path(path)
    try:
        temporary = _write_temporary(target.parent, data)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError, UnboundLocalError):
            os.unlink(temporary)
        raise InvalidInput(f"{target}: cannot be written ({error.strerror or error})") from error


class OutputFolder:
    """A folder that is known to be writable before the work begins, and is filled in one go after it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make the folder where needed. Raises InvalidInput if nothing can be written there, or the path is empty."""
        if not os.fspath(path):
            raise InvalidInput("output: got an empty path; give a folder ('.' is the current one)")
        self.path = Path(path)
        self._made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            os.unlink(_write_temporary(self.path, b""))
        except OSError as error:
            raise InvalidInput(f"{self.path}: the output folder is not writable ({error.strerror or error})") from error

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """After an error the folder goes again if it was made for nothing."""
        if error_type is not None and self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def fill(self, files: Mapping[str, bytes], absent: Iterable[str] = ()) -> None:
        """Write all files, or none: everything is on disk before the first name appears.

        ``absent``: names that must not be there afterwards, such as the pictures of an earlier run.
        """
        temporary: dict[str, str] = {}
        try:
            for name, data in files.items():
                temporary[name] = _write_temporary(self.path, data)
            for name in absent:
                (self.path / name).unlink(missing_ok=True)
            for name in files:
                os.replace(temporary[name], self.path / name)
        except OSError as error:
            raise InvalidInput(f"{self.path}: cannot be written ({error.strerror or error})") from error
        finally:
            for left in temporary.values():
                with contextlib.suppress(OSError):
                    os.unlink(left)


def _write_temporary(folder: Path, data: bytes) -> str:
    handle, name = tempfile.mkstemp(prefix=".fastretina-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files
    except OSError:
        os.unlink(name)
        raise
    return name


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
