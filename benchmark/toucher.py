# SPDX-License-Identifier: GPL-2.0-only
"""The traced programs: one that faults on demand, and one that waits for a word to begin."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

# For tracers that cannot follow children, but can tell a control group.
CGROUP = Path("/sys/fs/cgroup/benchmark")


@dataclass(frozen=True)
class Rounds:
    """What the workers did: CPU nanoseconds of each, for each fault of a round."""

    faults: int
    wall_ns: int
    per_fault: list[list[float]]

    def all(self) -> list[float]:
        """The rounds of all workers."""
        return [value for worker in self.per_fault for value in worker]


def _join_group(pid: int) -> None:
    CGROUP.mkdir(exist_ok=True)
    (CGROUP / "cgroup.procs").write_text(str(pid), encoding="ascii")


class Toucher:
    """`ft-workload faults`: touches pages when it is asked to."""

    def __init__(
        self,
        pages: int,
        *,
        mappings: int = 1,
        workers: int = 1,
        processes: bool = False,
        pin: bool = False,
    ) -> None:
        # A fixed order that no compression foresees; address by address would flatter it.
        words = ["ft-workload", "faults", "--shuffle", "1", f"--pages={pages}"]
        words += [f"--mappings={mappings}", f"--workers={workers}"]
        words += ["--processes"] * processes + ["--pin"] * pin
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        _join_group(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        status = self._process.wait()
        if status and error is None:
            raise RuntimeError(f"ft-workload faults ended with status {status}")

    def begin(self, command: str) -> None:
        """Has it work; `answer` waits for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> Rounds:
        """Waits for the end of what was begun."""
        said = self._answer()
        pages = said["pages"]
        per_fault = [[ns / pages for ns in worker] for worker in said["rounds_ns"]]
        return Rounds(said["faults"], said["wall_ns"], per_fault)

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("ft-workload faults has ended")
        return json.loads(line)

    def rounds(self, count: int) -> Rounds:
        """Touches all pages so often."""
        self.begin(f"rounds {count}")
        return self.answer()

    def seconds(self, time_s: float) -> Rounds:
        """Touches all pages for so long."""
        self.begin(f"seconds {time_s}")
        return self.answer()

    def children(self, count: int) -> list[int]:
        """Makes children that wait; the ids of all of them."""
        self.begin(f"children {count}")
        self._answer()
        return [
            int(word)
            for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        ]


class Command:
    """A command that a shell executes when it is asked to."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", 'read -r _ && exec "$@"', "sh", *words],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        _join_group(self.pid)

    def run(self) -> float:
        """Seconds from the word to the end."""
        started = time.monotonic()
        _, said = self._process.communicate("go\n")
        took = time.monotonic() - started
        if self._process.returncode:
            raise RuntimeError(f"the command failed: {said}")
        return took
