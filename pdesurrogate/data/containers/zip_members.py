"""Where the bytes of a stored member of a zip file begin."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

LOCAL_HEADER_BYTES = 30


def member_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the position of a member's first byte in the file.

    Raises:
        ValueError: if there is no member where the directory of the zip file says.
    """
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER_BYTES)
    if len(header) < LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
        raise ValueError(f"there is no member {info.filename} at byte {info.header_offset}")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
