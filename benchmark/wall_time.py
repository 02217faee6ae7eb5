# SPDX-License-Identifier: GPL-2.0-only
"""Part 2: how much longer real work takes under each tracer.

Each repetition does the work untraced and then under each tracer, so that what else the machine
does meets them all alike; a ratio is that of two neighbours.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmark.figures import ratios, summary
from benchmark.toucher import Command, Toucher
from benchmark.tracers import FOLLOWING, Running, Tracer, TracerError, run

Say = Callable[[str], None]


class Compilation:
    """Files of the kernel's minix file system, by the very commands of the kernel's own build.

    make itself takes longer than a file: it is asked once for the commands, which are then run as
    they stand, as many at a time as there are CPUs.
    """

    def __init__(self, folder: Path, files: int, jobs: int) -> None:
        sources = next(Path("/usr/src").glob("linux-source-*/fs/minix"))
        self._folder = folder / "minix"
        shutil.copytree(sources, self._folder)
        names = sorted(file.stem for file in self._folder.glob("*.c"))[:files]
        release = Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii").strip()
        build = Path(f"/lib/modules/{release}/build").resolve()
        objects = [f"{name}.o" for name in names]
        make = ["make", "-s", f"-j{jobs}", "-C", str(build), f"M={self._folder}"]
        run(*make, "CONFIG_MINIX_FS=m", *objects)
        for name in names:
            saved = (self._folder / f".{name}.o.cmd").read_text(encoding="utf-8")
            command = re.search(r"^savedcmd_\S+ := (.*)$", saved, re.M)
            if command is None:
                raise TracerError(f"make has not saved how it compiled {name}.c")
            # What make would expand; objtool's own path is relative to the build's folder.
            text = command[1].replace("$$", "$").replace("./tools/", f"{build}/tools/")
            (self._folder / f"{name}.sh").write_text(text + "\n", encoding="utf-8")
        scripts = " ".join(f"{name}.sh" for name in names)
        self._words = ["sh", "-c", f"printf '%s\\n' {scripts} | xargs -P {jobs} -n 1 sh -e"]
        self._objects = [self._folder / one for one in objects]

    def __call__(self, tracer: Tracer | None, folder: Path) -> dict:
        for file in self._objects:
            file.unlink(missing_ok=True)
        command = Command(self._words, self._folder)
        running = None if tracer is None else Running(tracer, command.pid, folder)
        took = command.run()
        result = _result(took, running)
        if not all(file.exists() for file in self._objects):
            raise RuntimeError("the compilation made no objects")
        return result


class Faults:
    """Faults and nothing else, on all CPUs."""

    def __init__(self, workers: int, processes: bool, pages: int, rounds: int) -> None:
        self._workers, self._processes = workers, processes
        self._pages, self._rounds = pages, rounds

    def __call__(self, tracer: Tracer | None, folder: Path) -> dict:
        with Toucher(self._pages, workers=self._workers, processes=self._processes) as toucher:
            toucher.rounds(1)
            running = None if tracer is None else Running(tracer, toucher.pid, folder)
            took = toucher.rounds(self._rounds).wall_ns / 1e9
            return _result(took, running)


def _result(took: float, running: Running | None) -> dict:
    if running is None:
        return {"seconds": took}
    outcome = running.finish()
    return {
        "seconds": took,
        "events": outcome.events,
        "lost": outcome.lost,
        "bytes": outcome.bytes,
        "recorder_s": outcome.tracing_ns / 1e9,
    }


def compare(work: Callable[[Tracer | None, Path], dict], folder: Path, repetitions: int) -> dict:
    """The work under each tracer, with its ratio to the untraced work just before."""
    untraced: list[float] = []
    results: dict[str, list[dict]] = {tracer.key: [] for tracer in FOLLOWING}
    bases: dict[str, list[float]] = {tracer.key: [] for tracer in FOLLOWING}
    failed: dict[str, str] = {}
    for repetition in range(repetitions):
        untraced.append(work(None, folder)["seconds"])
        # Not always in the same order.
        turn = repetition * 3 % len(FOLLOWING)
        for tracer in FOLLOWING[turn:] + FOLLOWING[:turn]:
            if tracer.key in failed:
                continue
            try:
                results[tracer.key].append(work(tracer, folder))
                bases[tracer.key].append(untraced[-1])
            except TracerError as error:
                failed[tracer.key] = str(error)
    rows = []
    for tracer in FOLLOWING:
        row: dict = {"key": tracer.key, "title": tracer.title, "command": tracer.shown()}
        if tracer.key in failed:
            row["failed"] = failed[tracer.key]
        else:
            done = results[tracer.key]
            seconds = [one["seconds"] for one in done]
            events = sum(one["events"] for one in done)
            row |= {
                "seconds": summary(seconds),
                "ratio": summary(ratios(seconds, bases[tracer.key])),
                "events": round(events / len(done)),
                "lost": None
                if any(one["lost"] is None for one in done)
                else sum(one["lost"] for one in done),
                "bytes_per_event": sum(one["bytes"] for one in done) / max(events, 1),
                "recorder_s": summary([one["recorder_s"] for one in done]),
            }
        rows.append(row)
    return {"untraced": summary(untraced), "rows": rows}


def run_all(folder: Path, quick: bool, cpus: int, say: Say) -> dict:
    """Each workload under each tracer."""
    repetitions = 1 if quick else 3
    pages, rounds = (256, 4) if quick else (2048, 12)
    files = 1 if quick else 2
    result = {}
    for key, title, work in (
        (
            "processes",
            f"{cpus} processes, each {rounds} times {pages:,} pages",
            Faults(cpus, True, pages, rounds),
        ),
        (
            "threads",
            f"{cpus} threads, each {rounds} times {pages:,} pages",
            Faults(cpus, False, pages, rounds),
        ),
        (
            "compilation",
            f"compilation of {files} file(s) of the kernel, {cpus} at a time",
            Compilation(folder, files, cpus),
        ),
    ):
        compared = compare(work, folder, repetitions)
        result[key] = {"title": title, **compared}
        say(f"{title}: {compared['untraced']['median']:.2f} s untraced")
        for row in compared["rows"]:
            reported = row.get("failed") or f"{row['ratio']['median']:.2f} times as long"
            say(f"  {row['title']}: {reported}")
    return result
