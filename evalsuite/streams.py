"""The standard streams of the command line: always open, never fatal on stderr, one error on stdout.

A reader that has seen enough (``| head``) ends the output and not the command: its files are still written, and the
exit code is the command's own. A stdout that is full or closed is an ``OutputError``.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from evalsuite.errors import OutputError


class _Descriptor(io.FileIO):
    """A standard descriptor that is replaced by the null device once it cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            with open(os.devnull, "wb") as null:  # noqa: PTH123  (the null device)
                os.dup2(null.fileno(), self.fileno())
            if self.fileno() == 1 and not isinstance(error, BrokenPipeError):
                raise OutputError(
                    f"cannot write to stdout ({error.strerror}); redirect it elsewhere and run again"
                ) from error
            return memoryview(data).nbytes


def prepare_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, and make stdout and stderr take any text."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one; else the next file to be opened, a database perhaps, would get it.
            # A closed stdout is opened for reading only, so that writing to it still fails.
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _text(1, sys.stdout), _text(2, sys.stderr)


def _text(number: int, stream: TextIO | None) -> TextIO:
    encoding = stream.encoding if stream is not None else "utf-8"
    buffer = io.BufferedWriter(_Descriptor(number, "wb", closefd=False))
    line_buffering = number == 2 or os.isatty(number)
    # Python writes what the encoding lacks (an ASCII terminal, half a surrogate pair) as \\uXXXX.
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", line_buffering=line_buffering)
