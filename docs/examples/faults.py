#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Prints each page fault of a process until it ends: an example of the device's ABI in plain Python.

    docs/examples/faults.py PID

uapi/PROTOCOL.md says what each call does and promises; the numbers here are those of uapi/fault_tracer.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys

ABI_VERSION = 2
SLOT_BYTES = 32
RECORD_FAULT = 8
WRITE, INSTRUCTION = 1 << 0, 1 << 8

INFO = struct.Struct("8I3Q4I4Q")
TARGET = struct.Struct("iI")
DRAIN = struct.Struct("Q4I")
COUNTERS = struct.Struct("2I7Q")


def ioc(direction: int, number: int, size: int = 0) -> int:
    """The number of a call: _IO, _IOW (1), _IOR (2) or _IOWR (3) of include/uapi/asm-generic/ioctl.h."""
    return direction << 30 | size << 16 | 0xF7 << 8 | number


IOC_INFO = ioc(2, 0, INFO.size)
IOC_TARGET_ADD = ioc(1, 2, TARGET.size)
IOC_START = ioc(0, 4)
IOC_STOP = ioc(0, 5)
IOC_DRAIN = ioc(3, 6, DRAIN.size)
IOC_CPU_COUNTERS = ioc(3, 7, COUNTERS.size)


def info(device: int) -> tuple[int, ...]:
    """What the session is, and what the module can do."""
    return INFO.unpack(fcntl.ioctl(device, IOC_INFO, bytes(INFO.size)))


def records(device: int, cpu: int, buffer: ctypes.Array[ctypes.c_char]):
    """The records that the ring of a CPU holds: the type and the bytes of each."""
    while True:
        request = DRAIN.pack(ctypes.addressof(buffer), len(buffer), cpu, 0, 0)
        try:
            answer = fcntl.ioctl(device, IOC_DRAIN, request)
        except OSError:
            return  # An id that no CPU has.
        length = DRAIN.unpack(answer)[3]
        if length == 0:
            return
        at = 0
        while at < length:
            (header,) = struct.unpack_from("Q", buffer, at)
            is_fault = header >> 63
            slots = 1 if is_fault else header >> 44 & 0xFF
            kind = RECORD_FAULT if is_fault else header >> 60
            yield kind, bytes(buffer[at : at + slots * SLOT_BYTES])
            at += slots * SLOT_BYTES


def show(fault: bytes) -> None:
    """Prints a fault."""
    header, time_ns, address_counters, _ = struct.unpack("4Q", fault)
    pid, tid = header >> 22 & (1 << 22) - 1, header & (1 << 22) - 1
    flags = header >> 44 & (1 << 13) - 1
    access = "x" if flags & INSTRUCTION else "w" if flags & WRITE else "r"
    print(time_ns, pid, tid, hex(address_counters & (1 << 56) - 1), access)


def main() -> None:
    """Traces the process of the command line."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: faults.py PID")
    device = os.open("/dev/fault_tracer", os.O_RDWR)
    version, _, _, cpus, *_ = info(device)
    if version != ABI_VERSION:
        sys.exit(f"the module speaks version {version} of the ABI, this program {ABI_VERSION}")
    fcntl.ioctl(device, IOC_TARGET_ADD, TARGET.pack(int(sys.argv[1]), 0))
    fcntl.ioctl(device, IOC_START)
    buffer = ctypes.create_string_buffer(1 << 16)
    poll = select.poll()
    poll.register(device, select.POLLIN)
    over = False
    while not over:
        # Fewer records than the watermark wake nobody.
        over = any(events & select.POLLHUP for _, events in poll.poll(100))
        if over:
            fcntl.ioctl(device, IOC_STOP)
        for cpu in range(cpus):
            for kind, record in records(device, cpu, buffer):
                if kind == RECORD_FAULT:
                    show(record)
    totals = [0, 0, 0]
    for cpu in range(cpus):
        try:
            answer = fcntl.ioctl(device, IOC_CPU_COUNTERS, COUNTERS.pack(cpu, *[0] * 8))
        except OSError:
            continue
        totals = [sum(pair) for pair in zip(totals, COUNTERS.unpack(answer)[2:5])]
    hits, recorded, dropped = totals
    missed = info(device)[9]
    print(
        f"{hits} hits = {recorded} recorded + {dropped} dropped; {missed} missed", file=sys.stderr
    )


if __name__ == "__main__":
    main()
