# SPDX-License-Identifier: GPL-2.0-only
"""Part 4: how the cost of a fault grows with targets, sessions, rings and mappings (in
instructions), and with CPUs (in time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmark.figures import percent_more, summary
from benchmark.toucher import Rounds, Toucher
from benchmark.tracers import Outcome, Ours, Running

Say = Callable[[str], None]


def _row(value: int, untraced: Rounds, traced: Rounds, outcomes: Iterable[Outcome]) -> dict:
    before, after = summary(untraced.all()), summary(traced.all())
    outcomes = list(outcomes)
    return {
        "value": value,
        "untraced": before["median"],
        "traced": after["median"],
        "added": after["median"] - before["median"],
        "events": sum(outcome.events for outcome in outcomes),
        "lost": sum(outcome.lost or 0 for outcome in outcomes),
    }


def _record(name: str, *words: str) -> Ours:
    return Ours(f"record-{name}", "fault-tracer record", "record", *words)


class Targets(Ours):
    """A session of many targets."""

    def __init__(self, others: list[int]) -> None:
        super().__init__("record-targets", "fault-tracer record", "record")
        self._others = others

    def command(self, pid: str, out: str) -> list[str]:
        return super().command(",".join([pid, *map(str, self._others)]), out)

    def shown(self) -> str:
        return "fault-tracer record --pid PID,PID,…"


def targets(folder: Path, quick: bool, rounds: int) -> list[dict]:
    """One session of 1 to 10,000 targets, of which one faults."""
    rows = []
    for count in (1, 10) if quick else (1, 10, 100, 1000, 10_000):
        with Toucher(1024) as toucher:
            children = toucher.children(count - 1)
            toucher.rounds(1)
            untraced = toucher.rounds(rounds)
            running = Running(Targets(children), toucher.pid, folder)
            traced = toucher.rounds(rounds)
            rows.append(_row(count, untraced, traced, [running.finish()]))
    return rows


def sessions(folder: Path, quick: bool, rounds: int, *, same: bool) -> list[dict]:
    """1 to 16 sessions, all on the process that faults or one of them."""
    rows = []
    for count in (1, 2) if quick else (1, 2, 4, 8, 16):
        with ExitStack() as stack:
            toucher = stack.enter_context(Toucher(1024))
            toucher.rounds(1)
            untraced = toucher.rounds(rounds)
            runnings = []
            for i in range(count):
                other = toucher if same or i == 0 else stack.enter_context(Toucher(1))
                runnings.append(Running(_record("sessions"), other.pid, folder, f"-{i}"))
            traced = toucher.rounds(rounds)
            rows.append(_row(count, untraced, traced, [one.finish() for one in runnings]))
    return rows


def rings(folder: Path, quick: bool, rounds: int) -> list[dict]:
    """Rings of 64 KiB to 64 MiB."""
    rows = []
    for kib in (64, 256) if quick else (64, 256, 1024, 4096, 16_384, 65_536):
        with Toucher(1024) as toucher:
            toucher.rounds(1)
            untraced = toucher.rounds(rounds)
            running = Running(_record("rings", f"--ring-kib={kib}"), toucher.pid, folder)
            traced = toucher.rounds(rounds)
            rows.append(_row(kib, untraced, traced, [running.finish()]))
    return rows


def mappings(folder: Path, quick: bool, rounds: int) -> list[dict]:
    """1 to 4,000 mappings, touched in an order that goes from each to another."""
    rows = []
    for count in (1, 10) if quick else (1, 10, 100, 1000, 2000, 4000):
        with Toucher(4096, mappings=count) as toucher:
            toucher.rounds(1)
            untraced = toucher.rounds(rounds)
            running = Running(_record("mappings"), toucher.pid, folder)
            traced = toucher.rounds(rounds)
            rows.append(_row(count, untraced, traced, [running.finish()]))
    return rows


def run(folder: Path, quick: bool, say: Say) -> dict:
    """All that needs one CPU and exact figures."""
    rounds = 2 if quick else 4
    result = {}
    for name, rows in (
        ("targets", lambda: targets(folder, quick, rounds)),
        ("sessions_same", lambda: sessions(folder, quick, rounds, same=True)),
        ("sessions_others", lambda: sessions(folder, quick, rounds, same=False)),
        ("rings_kib", lambda: rings(folder, quick, rounds)),
        ("mappings", lambda: mappings(folder, quick, rounds)),
    ):
        result[name] = rows()
        added = ", ".join(f"{row['value']:,}: {row['added']:,.0f}" for row in result[name])
        say(f"{name}: {added}")
    return result


def cpus(folder: Path, quick: bool, count: int, say: Say) -> dict:
    """What a fault costs on one CPU, and on each of several that fault at the same time.

    Four cases by turns, in rounds so short that many are undisturbed: the quickest of each case are
    compared, since whatever else runs on the machine only ever adds.
    """
    pages, rounds, repetitions = (256, 4, 2) if quick else (256, 80, 6)
    tracer = _record("cpus")
    numbers = sorted({1, min(2, count), count})
    cases: dict[tuple[int, bool], list[float]] = {
        (number, traced): [] for number in numbers for traced in (False, True)
    }
    lost = 0
    with ExitStack() as stack:
        touchers = {
            number: stack.enter_context(
                Toucher(pages, workers=number, processes=True, pin=True)
            )
            for number in numbers
        }
        for _ in range(repetitions):
            for number, toucher in touchers.items():
                cases[number, False] += toucher.rounds(rounds).all()
                running = Running(tracer, toucher.pid, folder)
                cases[number, True] += toucher.rounds(rounds).all()
                lost += running.finish().lost or 0
    rows = []
    for number in numbers:
        untraced, traced = summary(cases[number, False]), summary(cases[number, True])
        rows.append(
            {
                "value": number,
                "untraced": untraced,
                "traced": traced,
                "added": traced["median"] - untraced["median"],
                "added_least": traced["least"] - untraced["least"],
            }
        )
        say(f"{number} CPU(s): {rows[-1]['added_least']:,.0f} ns added")
    first, last = rows[0], rows[-1]
    return {
        "rows": rows,
        "lost": lost,
        # Of the cost of a traced fault: beyond what more CPUs cost without a tracer, too.
        "more_percent": 100
        * (last["added_least"] - first["added_least"])
        / first["traced"]["least"],
        "untraced_more_percent": percent_more(
            last["untraced"]["least"], first["untraced"]["least"]
        ),
    }
