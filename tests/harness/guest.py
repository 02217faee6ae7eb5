# SPDX-License-Identifier: GPL-2.0-only
"""Runs tests of one program in one guest, and says what became of each.

The machine may be slow or busy: there is no limit on the whole. A guest is ended when it has been
silent for long, as a test that hangs is. Tests that did not run because their guest ended are run
in a new one; those that still did not are named, and count as failed.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .junit import Case

# A guest that writes nothing for so many seconds hangs. The longest test takes about two minutes
# on an
# idle machine.
SILENCE = 1500
# Guests that may end early before the rest is given up.
GUESTS_MOST = 3
# The whole of a guest, in seconds: never reached before SILENCE is.
FOREVER = 999_999

BEGUN = re.compile(r"^test (\S+) \.\.\. ?(.*)$")
OUTCOMES = {"ok": None, "FAILED": "failed", "ignored": "it is ignored: it must run"}


@dataclass
class Progress:
    """What the lines of libtest say. `running` is the test that has begun and not ended, if its
    name has come already; `since` is when the one before it ended."""

    cases: dict[str, Case] = field(default_factory=dict)
    running: str | None = None
    since: float = field(default_factory=time.monotonic)
    finished: bool = False
    failures: list[str] = field(default_factory=list)

    def line(self, line: str) -> None:
        """Takes a line of standard output."""
        begun = BEGUN.match(line)
        if begun:
            self.running, rest = begun.group(1), begun.group(2)
            self._outcome(rest.rsplit(" ", 1)[-1])
        elif line.startswith("test result: "):
            self.finished = True
            self.running = None
        elif self.running:
            # A child of the test wrote between its name and its outcome.
            self._outcome(line)
        else:
            self.failures.append(line)

    def begin(self, text: str) -> None:
        """Takes the beginning of a line that has not ended: the name of a test that runs."""
        begun = BEGUN.match(text)
        if begun:
            self.running = begun.group(1)

    def _outcome(self, word: str) -> None:
        if self.running and word in OUTCOMES:
            now = time.monotonic()
            self.cases[self.running] = Case(self.running, now - self.since, OUTCOMES[word])
            self.running, self.since = None, now


def run_once(
    command: Sequence[str], progress: Progress, log, slower: int = 1
) -> str | None:
    """Runs the guest; returns why it ended early, None if it did not."""
    patience = SILENCE * slower
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        chunks: queue.Queue[tuple[bool, bytes] | None] = queue.Queue()

        def pump(stream, is_output: bool) -> None:
            while chunk := stream.read1(1 << 16):
                chunks.put((is_output, chunk))
            chunks.put(None)

        for stream, is_output in ((process.stdout, True), (process.stderr, False)):
            threading.Thread(target=pump, args=(stream, is_output), daemon=True).start()
        rest = b""
        open_streams = 2
        silent = False
        while open_streams:
            try:
                item = chunks.get(timeout=patience)
            except queue.Empty:
                silent = True
                process.terminate()
                break
            if item is None:
                open_streams -= 1
                continue
            is_output, chunk = item
            log.write(chunk)
            log.flush()
            if not is_output:
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r")
                known = len(progress.cases)
                progress.line(text)
                if len(progress.cases) > known:
                    case = list(progress.cases.values())[-1]
                    word = "ok" if case.failure is None else "FAILED"
                    print(f"test {case.name} ... {word} ({case.seconds:.1f} s)", flush=True)
            progress.begin(rest.decode(errors="replace"))
        status = process.wait()
    if silent:
        return f"the guest was silent for {patience} s, and was ended"
    if not progress.finished:
        return f"the guest ended early (status {status})"
    if status != 0 and all(case.failure is None for case in progress.cases.values()):
        return f"the tests passed, but the guest ended with status {status}"
    return None


def run(
    prefix: Sequence[str],
    program: Sequence[str],
    tests: Sequence[str],
    log,
    slower: int = 1,
) -> list[Case]:
    """Runs tests by name: `prefix` starts a guest, which may be so many times slower than others,
    `program` runs them. Each gets a case."""
    cases: dict[str, Case] = {}
    left = list(tests)
    reason = None
    for _ in range(GUESTS_MOST):
        if not left:
            break
        progress = Progress()
        command = [*prefix, "--timeout", str(FOREVER), "--", *program]
        command += ["--test-threads", "1", "--exact", *left]
        reason = run_once(command, progress, log, slower)
        cases.update(progress.cases)
        if progress.failures and any(case.failure for case in progress.cases.values()):
            print("\n".join(line for line in progress.failures if line.strip()), flush=True)
        if reason is None:
            left = [test for test in left if test not in cases]
            reason = "libtest does not know it" if left else None
            break
        print(f"guest: {reason}", flush=True)
        if progress.running and progress.running not in cases:
            cases[progress.running] = Case(progress.running, 0.0, f"{reason} in this test")
        elif progress.finished:
            # What the guest's status says belongs to no test: the last one stands for it.
            last = list(progress.cases)[-1]
            cases[last] = Case(last, cases[last].seconds, reason)
        left = [test for test in left if test not in cases]
    for test in left:
        cases[test] = Case(test, 0.0, f"it did not run: {reason}")
    return [cases[test] for test in tests]
