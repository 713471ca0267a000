"""Uncompressed zip archives, every byte of which is determined by their members.

Each content follows its local header; then come the central directory and its end record (PKWARE's APPNOTE, sections
4.3.7, 4.3.12 and 4.3.16): nothing compressed, no comments, no extra fields, one fixed date. The sizes of the members
give the size of the whole before any of them is read, and a reader that accepts only these bytes cannot be misled.
"""

from __future__ import annotations

import os
import pathlib
import secrets
import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import BinaryIO

MOST_BYTES = (1 << 32) - 1
"""The largest archive in bytes: sizes and offsets have 32 bits."""

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _STORED, _FIRST_OF_1980, _READABLE_FILE = 20, 0, 0x21, 0o100644 << 16
_UNIX = 3 << 8


def total_size(sizes: Mapping[str, int]) -> int:
    """The size in bytes of an archive whose members, by name, have given sizes."""
    around = sum(_LOCAL.size + _ENTRY.size + 2 * len(name.encode()) for name in sizes)
    return around + sum(sizes.values()) + _END.size


def replace(path: str | os.PathLike[str], members: Mapping[str, bytes]) -> None:
    """Write an archive to a path, completely or not at all.

    A temporary file beside it is written, forced to the disk and renamed: at any moment the path holds the old file or
    the new one. A symbolic link stays, and its target is replaced. An existing file keeps its permissions.

    Raises:
        ValueError: if there is something at the path that is not a regular file.
        OSError: from the file system.
    """
    target = pathlib.Path(os.path.realpath(pathlib.Path(path)))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"{str(path)!r} is not a regular file, and is not replaced by one")
    temporary = target.with_name(f".jaxgmm-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            write(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # The renaming reaches the disk with the directory; elsewhere directories cannot be opened.
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write(file: BinaryIO, members: Mapping[str, bytes]) -> None:
    """Write an archive.

    Args:
        file: the file, at its beginning.
        members: contents by name, bytes or buffers.
    """
    checksums = []
    for name, content in members.items():
        checksums.append(zlib.crc32(content))
        file.write(_local(name, checksums[-1], len(content)))
        file.write(content)
    file.write(_directory({name: len(content) for name, content in members.items()}, checksums))


def read_first(file: BinaryIO, name: str, most: int) -> bytearray:
    """The first member of an archive, of at most `most` bytes.

    Raises:
        ValueError: if the file does not begin with that member, or the member is larger or damaged.
    """
    begun = file.read(_LOCAL.size)
    size = _LOCAL.unpack(begun)[8] if len(begun) == _LOCAL.size else 0
    if not begun.startswith(b"PK\3\4") or size > most:
        raise ValueError(f"it does not begin with a member {name!r} of at most {most} bytes, as what `save` wrote does")
    file.seek(0)
    return _read_member(file, name, size)[0]


def read(file: BinaryIO, sizes: Mapping[str, int]) -> dict[str, bytearray]:
    """All members of an archive, whose names and sizes are known.

    Nothing is read, and no memory allocated, unless the file has the size that follows from them.

    Raises:
        ValueError: if any byte outside the contents is not what `write` writes there, or a checksum differs.
    """
    found, wanted = os.fstat(file.fileno()).st_size, total_size(sizes)
    if found != wanted:
        what = "is truncated" if found < wanted else "has something appended"
        raise ValueError(f"it {what}: its header describes {wanted} bytes, and it has {found}")
    file.seek(0)
    contents, checksums = {}, []
    for name, size in sizes.items():
        contents[name], checksum = _read_member(file, name, size)
        checksums.append(checksum)
    directory = _directory(sizes, checksums)
    if file.read(len(directory) + 1) != directory:
        raise ValueError("its directory does not describe the members that it has")
    return contents


def _read_member(file: BinaryIO, name: str, size: int) -> tuple[bytearray, int]:
    begun, content = bytearray(_LOCAL.size + len(name.encode())), bytearray(size)
    if file.readinto(begun) != len(begun) or file.readinto(content) != size:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(f"it is truncated within {name!r}")
    checksum = zlib.crc32(content)
    if begun != _local(name, checksum, size):
        if begun == _local(name, _LOCAL.unpack(begun[: _LOCAL.size])[6], size):
            raise ValueError(f"member {name!r} is damaged: it does not have its checksum")
        raise ValueError(f"where member {name!r} of {size} bytes should begin, uncompressed, stands something else")
    return content, checksum


def _local(name: str, checksum: int, size: int) -> bytes:
    fields = (_VERSION, 0, _STORED, 0, _FIRST_OF_1980, checksum, size, size, len(name.encode()), 0)
    return _LOCAL.pack(b"PK\3\4", *fields) + name.encode()


def _directory(sizes: Mapping[str, int], checksums: Iterable[int]) -> bytes:
    entries, offset = [], 0
    for (name, size), checksum in zip(sizes.items(), checksums, strict=True):
        fields = (_UNIX | _VERSION, _VERSION, 0, _STORED, 0, _FIRST_OF_1980, checksum, size, size)
        entry = _ENTRY.pack(b"PK\1\2", *fields, len(name.encode()), 0, 0, 0, 0, _READABLE_FILE, offset)
        entries.append(entry + name.encode())
        offset += len(_local(name, checksum, size)) + size
    listed = b"".join(entries)
    return listed + _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(listed), offset, 0)
