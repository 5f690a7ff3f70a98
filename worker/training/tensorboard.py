"""A run's learning curves as a TensorBoard event file.

Written here because the packages that can do it import a framework, and a runner uses only one. The format: TFRecord
frames (length, masked CRC-32C of it, bytes, masked CRC-32C of them), each with a protobuf `tensorflow.Event` {1:
wall_time double, 2: step varint, 3: file_version string, 5: summary {1: value {1: tag string, 2: simple_value float}}}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from worker.training.plots import History

FOLDER = "tensorboard"


def write_events(history: History, path: Path, at: float) -> Path:
    """Write every row of the history as a scalar of its name, and return the path.

    `at` (seconds since the epoch) is the time of all rows, since a history has steps but no times.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    events = [_double(1, at) + _bytes(3, b"brain.Event:2"), *(_scalar(at, *row) for row in _rows(history))]
    path.write_bytes(b"".join(map(_record, events)))
    return path


def _rows(history: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[tuple[int, str, float]]:
    """Return (step, name, value) in the order of steps."""
    rows = [(int(step), name, value) for name, found in history.items() for step, value in found]
    return iter(sorted(rows, key=lambda row: row[:2]))


def _scalar(at: float, step: int, name: str, value: float) -> bytes:
    scalar = _bytes(1, name.encode()) + _key(2, 5) + struct.pack("<f", value)
    return _double(1, at) + _key(2, 0) + _varint(step) + _bytes(5, _bytes(1, scalar))


# -- protobuf -------------------------------------------------------------------------------------


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, 2) + _varint(len(content)) + content


# -- TFRecord -------------------------------------------------------------------------------------


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked_crc(length) + event + _masked_crc(event)


def _masked_crc(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)


def _entry(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)  # Castagnoli, reflected
    return index


_TABLE = [_entry(index) for index in range(256)]
