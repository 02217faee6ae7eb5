#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest, called by scripts/bench: measures, and writes the figures as JSON.

It says what it does on standard output. The exit status is 1 if a tracer failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# pylint: disable=wrong-import-position
from benchmark import growth, per_fault, rates, report, wall_time  # noqa: E402
from benchmark.peers import UnreadableError  # noqa: E402
from benchmark.tracers import TracerError, module  # noqa: E402


def version(*words: str) -> str:
    """The first line of what a program says of its version: trace-cmd with its help, and fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[0]


def machine() -> dict:
    """What the figures belong to."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name\t: ")[1]
    memory = Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    return {
        "kernel": os.uname().release,
        "cpu": cpu.splitlines()[0],
        "cpus": os.cpu_count(),
        "memory_mib": int(memory) // 1024,
        "fault_tracer": version("fault-tracer", "--version"),
        "perf": version("perf", "--version"),
        "trace_cmd": version("trace-cmd", "--version"),
        "bpftrace": version("bpftrace", "--version"),
        "gcc": version("gcc", "--version"),
    }


def measure(clock: str, part: str, folder: Path, quick: bool) -> object:
    """One part's figures."""

    def say(line: str) -> None:
        print(f"{part}: {line}", flush=True)

    cpus = os.cpu_count() or 1
    if part == "per-fault":
        return per_fault.run(folder, quick, say)
    if part == "growth":
        return growth.run(folder, quick, say)
    if part == "cpus":
        return growth.cpus(folder, quick, cpus, say)
    if part == "wall-time":
        return wall_time.run_all(folder, quick, cpus, say)
    if part == "drain":
        # Counts of instructions hardly differ.
        ways = rates.drain(quick, 1 if clock == "icount" else 5)
        for way in ways:
            say(f"by {way['by']}: {way['ns_per_fault']['median']:.1f} ns for each fault")
        return ways
    if part == "beyond":
        beyond = rates.beyond(folder, quick)
        say(f"{beyond['account']}")
        return beyond
    sustained = rates.sustained(folder, quick, cpus)
    say(f"{sustained['per_s']:,.0f} faults/s, {sustained['lost']} lost")
    return sustained


def build() -> str:
    """What tells this build of the module and the tool from another."""
    files = (module(), shutil.which("fault-tracer") or "")
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]


def kept(output: Path, result: dict) -> dict:
    """The figures of other parts, where they were measured alike."""
    if not output.exists():
        return result
    old = json.loads(output.read_text(encoding="utf-8"))
    alike = all(old[key] == result[key] for key in ("clock", "quick", "machine"))
    return {**result, "parts": old["parts"], "builds": old["builds"]} if alike else result


def failures(figures: object) -> int:
    """How many rows say that they failed."""
    if isinstance(figures, dict):
        return ("failed" in figures) + sum(failures(value) for value in figures.values())
    if isinstance(figures, list):
        return sum(failures(value) for value in figures)
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", choices=report.PARTS, required=True, help="of this boot")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: figures of no use")
    parser.add_argument("--part", action="append", help="measure only this anew; may be repeated")
    parser.add_argument("output", type=Path, help="the JSON to write")
    arguments = parser.parse_args()
    result: dict = {
        "clock": arguments.clock,
        "quick": arguments.quick,
        "machine": machine(),
        "parts": {},
        "builds": {},
    }
    if arguments.part:
        result = kept(arguments.output, result)
    with tempfile.TemporaryDirectory() as folder:
        for part in report.PARTS[arguments.clock]:
            if arguments.part and part not in arguments.part:
                continue
            started = time.monotonic()
            try:
                result["parts"][part] = measure(
                    arguments.clock, part, Path(folder), arguments.quick
                )
            except (TracerError, UnreadableError, RuntimeError, OSError) as error:
                # OnWritten in the tables; the other parts are measured nevertheless.
                traceback.print_exc()
                result["parts"][part] = {"failed": f"{type(error).__name__}: {error}"}
            result["builds"][part] = build()
            print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
            # After each part: what was measured is not lost with what comes after it.
            text = json.dumps(result, indent=1) + "\n"
            arguments.output.write_text(text, encoding="utf-8")
    return 1 if failures(result["parts"]) else 0


if __name__ == "__main__":
    sys.exit(main())
