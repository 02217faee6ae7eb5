# SPDX-License-Identifier: GPL-2.0-only
"""Part 3: rates. What `record` takes without a loss, what the rings give, and what happens "
"beyond."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmark.figures import slope, summary
from benchmark.toucher import Toucher
from benchmark.tracers import PATIENCE_S, POLL, RECORD, Ours, Running, run, wait_for, waits

Say = Callable[[str], None]


def sustained(folder: Path, quick: bool, cpus: int) -> dict:
    """As many faults as all CPUs can make, recorded by default settings."""
    seconds = 2 if quick else 60
    with Toucher(2048, workers=cpus, processes=True) as toucher:
        untraced = toucher.seconds(1 if quick else 10)
        running = Running(RECORD, toucher.pid, folder)
        traced = toucher.seconds(seconds)
        outcome = running.finish()
    return {
        "cpus": cpus,
        "seconds": traced.wall_ns / 1e9,
        "untraced_per_s": untraced.faults / untraced.wall_ns * 1e9,
        "faults": traced.faults,
        "events": outcome.events,
        "per_s": outcome.events / traced.wall_ns * 1e9,
        "lost": outcome.lost,
        "bytes_per_event": outcome.bytes / outcome.events,
        "file_mb_per_s": outcome.bytes / traced.wall_ns * 1e3,
        "recorder_share": outcome.tracing_ns / traced.wall_ns,
        "recorder_ns_per_fault": slope(outcome.tracing_ns, 0, outcome.events),
    }


class DrainRate:
    """`ft-drain-rate`, which empties rings when it is asked to."""

    def __init__(self, pid: int, by: str) -> None:
        run("modprobe", "fault_tracer")
        self._process = subprocess.Popen(
            ["ft-drain-rate", f"--pid={pid}", f"--by={by}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"ft-drain-rate ended with status {self._process.wait()}")
        return json.loads(line)

    def empty(self) -> dict:
        """Empties all rings."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Ends the session."""
        self._process.communicate()


def drain(quick: bool, repetitions: int) -> list[dict]:
    """How fast filled rings are emptied, both ways by turns."""
    pages, rounds = (512, 2) if quick else (4096, 8)
    ways: dict[str, list[dict]] = {"call": [], "mapping": []}
    with Toucher(pages) as toucher:
        for _ in range(repetitions):
            for by, taken in ways.items():
                drainer = DrainRate(toucher.pid, by)
                toucher.rounds(rounds)
                taken.append(drainer.empty())
                drainer.end()
    return [
        {
            "by": by,
            "faults": taken[0]["faults"],
            "dropped": sum(one["dropped"] for one in taken),
            "ns_per_fault": summary([one["cpu_ns"] / one["faults"] for one in taken]),
            "faults_per_s": summary([one["faults"] / one["wall_ns"] * 1e9 for one in taken]),
            "mb_per_s": summary([one["bytes"] / one["wall_ns"] * 1e3 for one in taken]),
        }
        for by, taken in ways.items()
    ]


def beyond(folder: Path, quick: bool) -> dict:
    """More faults than the rings hold, while the recorder is stopped: each loss must be accounted "
    "for."""
    tracer = Ours("record-beyond", "fault-tracer record", "record", "--ring-kib=64")
    trace = folder / "beyond.arrows"
    with Toucher(512) as toucher:
        running = Running(tracer, toucher.pid, folder)
        assert running.process is not None
        running.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{running.process.pid}/stat")
        wait_for(lambda: ") T " in state.read_text(encoding="ascii"), "the recorder is stopped")
        faults = toucher.rounds(8 if quick else 40).faults
        running.process.send_signal(signal.SIGCONT)
        # And some that fit again.
        wait_for(lambda: waits(running.process.pid, POLL), "the recorder has emptied the ring")
        faults += toucher.rounds(1).faults
        # The trace is kept from `finish`, which removes it.
        os.link(running.out, trace)
        running.finish()
    rows = run("fault-tracer", "export", str(trace), "-f", "jsonl", "--events").splitlines()
    account = {"hits": 0, "recorded": 0, "dropped": 0, "overwritten": 0, "missed": 0}
    # The account counts attempts, of which a fault may have several; the summary counts faults.
    recorded = 0
    for row in map(json.loads, rows):
        if row["event"] in account:
            account[row["event"]] += row["count"]
        elif row["event"] == "fault":
            recorded += row["attempts"]
    verify = subprocess.run(
        ["fault-tracer", "verify", str(trace)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    trace.unlink()
    return {
        "command": tracer.shown(),
        "faults": faults,
        "account": account,
        "recorded": recorded,
        "exact": account["hits"] == account["recorded"] + account["dropped"]
        and account["recorded"] == recorded
        and account["missed"] == 0,
        "verify": verify.stdout.splitlines()[:12],
        "verify_status": verify.returncode,
    }
