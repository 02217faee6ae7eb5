# SPDX-License-Identifier: GPL-2.0-only
"""Part 1: what each tracer adds to a fault, and what its recorder needs for it, in instructions.

One thread touches pages while each tracer in turn traces it, and just before and after. Its own CPU
time counts, which leaves the tracer's programs out though they share its CPU; under icount one
nanosecond is one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmark.figures import slope, summary
from benchmark.toucher import Toucher
from benchmark.tracers import ALL, Running, Tracer, TracerError


def measure(tracer: Tracer, folder: Path, pages: int, rounds: int) -> dict:
    """One tracer's row."""
    with Toucher(pages) as toucher:
        toucher.rounds(1)
        untraced = toucher.rounds(rounds // 2).all()
        # The same tracer without a fault to trace: what it needs for itself.
        idle = Running(tracer, toucher.pid, folder).finish()
        running = Running(tracer, toucher.pid, folder)
        done = toucher.rounds(rounds)
        outcome = running.finish()
        untraced += toucher.rounds(rounds // 2).all()
    base, traced = summary(untraced), summary(done.all())
    events = outcome.events - idle.events
    return {
        "untraced": base,
        "traced": traced,
        "added": traced["median"] - base["median"],
        "added_least": traced["least"] - base["least"],
        "faults": done.faults,
        "events": events,
        "lost": outcome.lost,
        "bytes_per_event": slope(outcome.bytes, idle.bytes, events),
        "recorder_per_fault": slope(outcome.tracing_ns, idle.tracing_ns, events),
        "recorder_idle": idle.cpu_ns,
    }


def run(folder: Path, quick: bool, say: Callable[[str], None]) -> dict:
    """All tracers, one after the other."""
    pages, rounds = (512, 2) if quick else (4096, 6)
    rows = []
    for tracer in ALL:
        row: dict = {"key": tracer.key, "title": tracer.title, "command": tracer.shown()}
        try:
            row |= measure(tracer, folder, pages, rounds)
            say(f"{tracer.title}: {row['added']:,.0f} instructions added")
        except TracerError as error:
            row["failed"] = str(error)
            say(f"{tracer.title}: {error}")
        rows.append(row)
    return {"pages": pages, "rounds": rounds, "rows": rows}
