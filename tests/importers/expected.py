# SPDX-License-Identifier: GPL-2.0-only
"""What is in the trace of userspace/recorder/examples/fixture.rs, by the number of each fault."""

import os

FAULTS = 3000
NUMBERS = range(1, FAULTS + 1)
PID = 70
ACCESSES = ["read", "write", "execute"]
KINDS = [
    "hugetlb",
    "guard",
    "poisoned",
    "migration",
    "device-private",
    "device-exclusive",
    "swap-in",
    "numa-hint",
    "protected",
    "uffd-rwp",
    "uffd-wp",
    "copy-on-write",
    "write-notify",
    "spurious",
    "uffd-missing",
    "uffd-minor",
    "changing",
    "special",
    "shared-memory",
    "file-exec",
    "file-copy",
    "file-write",
    "file-read",
    "zero-fill",
    "zero-page",
]
FATES = ["minor", "major", "retried", "failed", "unknown"]
SYMBOL = "fixture_code"
# What is to be added to the times to get nanoseconds since 1970.
WALL_OFFSET = 1_000_000
# The frames by which faults refer to their callers: a whole stack and one that is cut off.
STACKS = {0: 3, 2: 4}
CALLERS = {3: ["[unknown]", SYMBOL], 4: [SYMBOL, "[cut off]"]}


def callers(number):
    """The names of a fault's callers, the nearest first; None without a stack."""
    return CALLERS.get(STACKS.get(number % 4))


def fault(number):
    """Columns of a fault."""
    odd = number % 2 == 1
    return {
        "time_ns": number * 1000,
        "cpu": number % 2,
        "pid": PID,
        "tid": PID + number % 3,
        "process": "fixture",
        "thread": f"worker {number % 3}",
        "address": number << 12,
        "access": ACCESSES[number % 3],
        "flags": "file|user",
        "mapping": f'/data/{number % 7}, "{number // 2}".bin',
        "permissions": "rw-p",
        "file_offset": number * 4096 if odd else None,
        "object": os.environ["FIXTURE"] if odd else None,
        "kind": KINDS[number % len(KINDS)],
        "fate": FATES[number % len(FATES)],
        "duration_ns": number if odd else None,
        "program": "/bin/fixture",
        "attempts": 1 + number % 3,
        "page_bytes": 4096 << number % 10 if odd else None,
        "page_node": number % 3 if odd else None,
        "around": number % 16 if odd else None,
        "stack": STACKS.get(number % 4),
    }


def symbol(number):
    """The symbol of a fault's code and the place behind its beginning, if it has any."""
    return (SYMBOL, number % 4) if number % 2 == 1 else (None, None)


def faults():
    """All faults."""
    return [fault(number) for number in NUMBERS]


def completed():
    """The numbers of the faults that are not attempts."""
    return [number for number in NUMBERS if fault(number)["fate"] != "retried"]
