"""Opening files of lines: compressed or not, and only as far as they are written when they grow."""

from __future__ import annotations

from typing import Any

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
TAIL = 1 << 20


def suffixes(*plain: str) -> tuple[str, ...]:
    """The suffixes with every compression behind them."""
    return tuple(name + end for name in plain for end in ("", *COMPRESSIONS))


def compression_of(path: str) -> str | None:
    """How the name says that a file is compressed."""
    return next((kind for end, kind in COMPRESSIONS.items() if path.lower().endswith(end)), None)


def open_lines(filesystem: Any, path: str, size: int) -> Any:
    """A stream over the whole lines among the first ``size`` bytes, uncompressed.

    A log that is being written to may end in half a line; what comes after ``size`` belongs to a later look.
    """
    compression = compression_of(path)
    if compression:
        return filesystem.open_input_stream(path, compression=compression)
    file = filesystem.open_input_file(path)
    size = min(size, file.size())
    start = max(0, size - TAIL)
    tail = file.read_at(size - start, start)
    last = tail.rfind(b"\n")
    whole = size if last < 0 else start + last + 1
    if last >= 0 and tail[last + 1 :].strip() and file.size() == size:
        before = tail[:last].rsplit(b"\n", 1)[-1]
        if _whole(tail[last + 1 :].strip(), before):
            whole = size
    return file.get_stream(0, whole)


def _whole(line: bytes, before: bytes) -> bool:
    """Whether a last line without its line end may be whole: a JSON object that closes, or as many cells as before it."""
    if before.lstrip().startswith(b"{"):
        return line.endswith(b"}")
    return all(line.count(mark) == before.count(mark) for mark in (b",", b";", b"\t", b"|"))
