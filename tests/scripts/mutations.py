# SPDX-License-Identifier: GPL-2.0-only
"""Makes damaged inputs out of sound ones: always the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

# What breaks out of a line, a field, a number or a text.
PIECES = (
    b"\0",
    b"\0" * 512,
    b"\n",
    b"\r",
    b",",
    b'"',
    b"#",
    b"-1",
    b"nan",
    b"1e999",
    b"0x",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    "٣ ".encode(),
    b"9" * 25,
    b"9" * 5000,
    b"x" * 100_000,
    b"# kernel: $\\frac{\n",
    b"|$_$|$\\a",
    b"# command: it's \xf0\x9f\x90\xa7 \x1b[0m $\\frac{\n",
    b"# lost: dropped=1",
    b"# wall_offset_ns: 9999999999999999999\n",
)


def mutated(sound: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield damaged copies: cut off, bits flipped, bytes replaced, parts gone, doubled, put in."""
    rng = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged) + 1)
            end = min(len(damaged), at + rng.randint(1, 64))
            match rng.randrange(6):
                case 0:
                    del damaged[at:]
                case 1 if at < end:
                    damaged[at] ^= 1 << rng.randrange(8)
                case 2 if at < end:
                    damaged[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 3:
                    del damaged[at:end]
                case 4:
                    to = rng.randrange(len(damaged) + 1)
                    damaged[to:to] = damaged[at:end]
                case _:
                    damaged[at:at] = rng.choice(PIECES)
        yield bytes(damaged)


# What is no recording at all.
FOREIGN = {
    "nothing": b"",
    "line ends": b"\n" * 3000,
    "zeros": bytes(5000),
    "a program": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8,
    "perf.data": b"PERFILE2" + bytes(200),
    "Parquet": b"PAR1" + bytes(100) + b"PAR1",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "JSON": b'{"event": "fault", "time_ns": 5}\n',
    "other CSV": b"time,address\n1,2\n",
    "UTF-16": "time_ns,cpu,pid\n".encode("utf-16"),
    "one long line": b"x" * (4 << 20),
    "many fields": b"1," * (1 << 20),
    "an Arrow file": b"ARROW1\0\0\xff\xff\xff\xff" + bytes(100),
    "an end of a stream": b"\xff\xff\xff\xff\0\0\0\0",
    "half a gzip": b"\x1f\x8b\x08",
}
