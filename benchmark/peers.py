# SPDX-License-Identifier: GPL-2.0-only
"""What tracers wrote: how many events, and how many they say they lost. No view of the machine."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass


class UnreadableError(Exception):
    """A tracer's output is not what it is known to write."""


@dataclass(frozen=True)
class Counts:
    """Events in a file and losses by the tracer's own count; None where it has no such count."""

    events: int
    lost: int | None


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def fault_tracer(summary: str) -> Counts:
    """From what `record` and `drain` say at their end."""
    faults = re.search(r"^fault-tracer: ([0-9,]+) faults? \(", summary, re.M)
    lost = re.search(r"^fault-tracer: lost: ([0-9,]+) \(", summary, re.M)
    if not faults or not lost:
        raise UnreadableError(f"this is no summary of fault-tracer:\n{summary}")
    return Counts(_number(faults[1]), _number(lost[1]))


def kernel_log(log: str) -> Counts:
    """From the kernel log that `insmod fault_tracer.ko log=1` prints to."""
    lines = re.findall(r"fault_tracer: .*fault: process", log)
    # The log itself tells a reader that was too slow by a gap; dmesg does not count it.
    return Counts(len(lines), None)


PERF_MAGIC = b"PERFILE2"
# Record types of perf_event.h: each record begins with type, misc and size.
PERF_LOST, PERF_SAMPLE, PERF_LOST_SAMPLES = 2, 9, 13


def perf_data(data: bytes) -> Counts:
    """From a file of `perf record`, without its compression (-z)."""
    if data[:8] != PERF_MAGIC or len(data) < 56:
        raise UnreadableError("this is no perf.data")
    start, size = struct.unpack_from("<QQ", data, 40)
    if start + size > len(data):
        raise UnreadableError("perf.data is cut off")
    samples, lost, lost_samples = 0, 0, 0
    position = start
    while position < start + size:
        if position + 8 > len(data):
            raise UnreadableError("perf.data is cut off")
        kind, _, length = struct.unpack_from("<IHH", data, position)
        least = {PERF_LOST: 24, PERF_LOST_SAMPLES: 16}.get(kind, 8)
        if length < least or position + length > len(data):
            raise UnreadableError(f"perf.data: a record of {length} bytes")
        if kind == PERF_SAMPLE:
            samples += 1
        elif kind == PERF_LOST:
            lost += struct.unpack_from("<Q", data, position + 16)[0]
        elif kind == PERF_LOST_SAMPLES:
            lost_samples += struct.unpack_from("<Q", data, position + 8)[0]
        position += length
    # Two counts of the same losses: reported on the way, and asked for at the end.
    return Counts(samples, max(lost, lost_samples))


def perf_trace(text: str) -> Counts:
    """From the text of `perf trace -F all`."""
    lost = sum(int(count) for count in re.findall(r"^LOST (\d+) events", text, re.M))
    return Counts(len(re.findall(r"^.*\b(?:min|maj)fault \[", text, re.M)), lost)


def trace_cmd(statistics: str) -> Counts:
    """From `trace-cmd report --stat`: of each CPU, what was read and what was left unread."""

    def total(key: str) -> int:
        return sum(int(count) for count in re.findall(rf"^{key}: (\d+)$", statistics, re.M))

    if "read events:" not in statistics:
        raise UnreadableError(f"trace-cmd reports no statistics:\n{statistics}")
    lost = total("overrun") + total("commit overrun") + total("dropped events")
    return Counts(total("entries") + total("read events"), lost)


def trace_pipe(text: str, event: str) -> Counts:
    """From the text of tracefs' trace_pipe."""
    lost = sum(int(count) for count in re.findall(r"\[LOST (\d+) EVENTS\]", text))
    return Counts(len(re.findall(rf" {event}: ", text)), lost)


def bpftrace(text: str) -> Counts:
    """From lines `F ADDRESS` that a program printed, and bpftrace's own words on losses."""
    lost = sum(int(count) for count in re.findall(r"[Ll]ost (\d+) events", text))
    return Counts(len(re.findall(r"^F [0-9a-f]+$", text, re.M)), lost)
