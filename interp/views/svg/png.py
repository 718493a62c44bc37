"""A grey PNG as a data address: the smallest self-contained carrier of a matrix."""

import base64
import struct
import zlib

import numpy as np


def grey(matrix: np.ndarray) -> str:
    """``matrix`` [row, column] with values 0 (black) to 1 (white) as ``data:image/png;base64,...``, 8 bits a cell."""
    levels = np.round(np.clip(np.nan_to_num(matrix), 0, 1) * 255).astype(np.uint8)
    height, width = levels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
