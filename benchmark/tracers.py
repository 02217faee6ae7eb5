# SPDX-License-Identifier: GPL-2.0-only
"""The tracers: how each is started on a process, when it traces, how it ends and what it wrote."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark import peers
from benchmark.toucher import CGROUP

TRACING = Path("/sys/kernel/tracing")
INSTANCE = TRACING / "instances/benchmark"
# How long a tracer may need to begin, to end, or to empty its buffers; it is late for no figure.
PATIENCE_S = 300
# System calls in which tracers wait for events: poll and ppoll, epoll_wait and epoll_pwait;
# select, nanosleep, wait4 and waitid; read. By their numbers on this processor.
if platform.machine() == "aarch64":
    POLL = frozenset({"73"})
    EPOLL = frozenset({"22", "441"})
    SLEEP = POLL | {"72", "95", "101", "115", "260"}
    READ = frozenset({"63"})
else:
    POLL = frozenset({"7", "271"})
    EPOLL = frozenset({"232", "281"})
    SLEEP = POLL | {"23", "35", "61", "230", "247", "270"}
    READ = frozenset({"0"})


class TracerError(Exception):
    """A tracer does not work here."""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Asks again and again until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TracerError(f"{what}: not within {PATIENCE_S} s")
        time.sleep(0.02)


def waits(pid: int, calls: frozenset[str]) -> bool:
    """Whether the process's first thread is asleep in one of these system calls."""
    return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0] in calls


def holds(pid: int, name: str) -> bool:
    """Whether one of the process's open files is such."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if name in os.readlink(link):
                return True
        except FileNotFoundError:
            continue  # Closed meanwhile.
    return False


def probed() -> bool:
    """Whether something is attached to handle_mm_fault."""
    return "handle_mm_fault" in (TRACING / "enabled_functions").read_text(encoding="ascii")


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process and its children, in nanoseconds."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
        for child in (thread / "children").read_text(encoding="ascii").split():
            total += cpu_ns(int(child))
    return total


def run(*words: str) -> str:
    """A command's output; its failure is an error that shows what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TracerError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def module() -> str:
    """The path of fault_tracer.ko."""
    return os.path.realpath(run("modinfo", "-n", "fault_tracer").strip())


class Tracer:
    """A tracer of a process and, if it can, of its children."""

    key = ""
    title = ""

    def command(self, pid: str, out: str) -> list[str]:
        """What is run to trace process `pid` into file `out`; nothing where no program is "
        "needed."""
        raise NotImplementedError

    def shown(self) -> str:
        """The command line for people."""
        words = (f"'{word}'" if " " in word else word for word in self.command("PID", "FILE"))
        return " ".join(words)

    def set_up(self, pid: int) -> None:
        """What comes before the command."""

    def tear_down(self) -> None:
        """What comes after the command's end."""

    def ready(self, pid: int) -> bool:
        """Whether the running command traces by now."""
        raise NotImplementedError

    def stop(self, process: subprocess.Popen[str]) -> None:
        """Asks the command to end."""
        process.send_signal(signal.SIGINT)

    def counts(self, out: Path, said: str) -> peers.Counts:
        """What the file and the command's messages say."""
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """What a tracer wrote and used: bytes of its file, CPU time of it and its children, in all and
    after the moment from which it traced.
    """

    events: int
    lost: int | None
    bytes: int
    cpu_ns: int
    tracing_ns: int


class Running:
    """A tracer while it traces."""

    def __init__(self, tracer: Tracer, pid: int, folder: Path, name: str = "") -> None:
        self.tracer = tracer
        self.out = folder / f"{tracer.key}{name}.out"
        self._said = folder / f"{tracer.key}{name}.said"
        for file in (self.out, self._said):
            file.unlink(missing_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self._begun_ns = 0
        tracer.set_up(pid)
        words = tracer.command(str(pid), str(self.out))
        if not words:
            return
        with open(self._said, "w", encoding="utf-8") as said:
            # Not to a file that the tracer also writes by name.
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, text=True
            )
        process = self.process

        def ready() -> bool:
            if process.poll() is not None:
                raise TracerError(f"{tracer.shown()} has ended at once: {self.said().strip()}")
            return tracer.ready(process.pid)

        try:
            wait_for(ready, f"{tracer.shown()} traces")
        except BaseException:
            process.kill()
            process.wait()
            tracer.tear_down()
            raise
        self._begun_ns = cpu_ns(process.pid)

    def said(self) -> str:
        """The command's messages."""
        return self._said.read_text(encoding="utf-8", errors="replace") if self.process else ""

    def finish(self) -> Outcome:
        """Ends it, and reads what it wrote."""
        used_ns = 0
        if self.process is not None:
            self.tracer.stop(self.process)
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            used_ns = round((usage.ru_utime + usage.ru_stime) * 1e9)
            if self.process.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
                self.tracer.tear_down()
                raise TracerError(
                    f"{self.tracer.shown()}: status {self.process.returncode}: {self.said()}"
                )
        counts = self.tracer.counts(self.out, self.said())
        self.tracer.tear_down()
        size = self.out.stat().st_size if self.out.exists() else 0
        self.out.unlink(missing_ok=True)
        return Outcome(counts.events, counts.lost, size, used_ns, used_ns - self._begun_ns)


# ---------------------------------------------------------------- ours


class Ours(Tracer):
    """fault-tracer, by one of its subcommands."""

    def __init__(self, key: str, title: str, *words: str) -> None:
        self.key, self.title, self._words = key, title, words

    def command(self, pid: str, out: str) -> list[str]:
        return ["fault-tracer", *self._words, "--pid", pid, "-o", out]

    def set_up(self, pid: int) -> None:
        run("modprobe", "fault_tracer")

    def ready(self, pid: int) -> bool:
        # It waits for records after the session has been started.
        return waits(pid, POLL) and probed()

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.fault_tracer(said)


class Latency(Ours):
    """The mode that also records how long each fault took."""

    def set_up(self, pid: int) -> None:
        if "--latency" not in run("fault-tracer", "record", "--help"):
            raise TracerError("fault-tracer record has no --latency in this version")
        super().set_up(pid)


class Miss(Ours):
    """A session whose target is another process."""

    def __init__(self) -> None:
        super().__init__("miss", "fault-tracer, another process traced (target miss)", "record")
        self._other: subprocess.Popen[bytes] | None = None

    def set_up(self, pid: int) -> None:
        super().set_up(pid)
        self._other = subprocess.Popen(["sleep", "infinity"])

    def command(self, pid: str, out: str) -> list[str]:
        other = "OTHER" if self._other is None else str(self._other.pid)
        return super().command(other, out)

    def tear_down(self) -> None:
        if self._other:
            self._other.kill()
            self._other.wait()
            self._other = None


class Log(Tracer):
    """The module's own printing to the kernel log, which dmesg copies to a file."""

    key = "log"
    title = "fault-tracer, kernel log"

    def command(self, pid: str, out: str) -> list[str]:
        return ["sh", "-c", f"exec dmesg --follow-new >{out}"]

    def shown(self) -> str:
        return "insmod fault_tracer.ko pid=PID log=1; dmesg --follow-new >FILE"

    def set_up(self, pid: int) -> None:
        path = module()
        if Path("/sys/module/fault_tracer").exists():
            run("rmmod", "fault_tracer")
        run("insmod", path, f"pid={pid}", "log=1")

    def ready(self, pid: int) -> bool:
        return probed() and waits(pid, READ) and holds(pid, "kmsg")

    def stop(self, process: subprocess.Popen[str]) -> None:
        wait_for(lambda: self.ready(process.pid), "dmesg has read all")
        super().stop(process)

    def tear_down(self) -> None:
        run("rmmod", "fault_tracer")

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.kernel_log(out.read_text(encoding="utf-8", errors="replace"))


class EmptyKprobe(Tracer):
    """A kprobe that does nothing: the floor."""

    key = "floor"
    title = "a kprobe that does nothing (the floor)"

    def command(self, pid: str, out: str) -> list[str]:
        return []

    def shown(self) -> str:
        return "insmod empty_kprobe.ko"

    def set_up(self, pid: int) -> None:
        run("insmod", "/checkout/build/benchmark/empty_kprobe.ko")

    def tear_down(self) -> None:
        run("rmmod", "empty_kprobe")

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.Counts(0, None)


# ---------------------------------------------------------------- peers


class PerfRecord(Tracer):
    """perf record."""

    def __init__(self, key: str, title: str, *words: str) -> None:
        self.key, self.title, self._words = key, title, words

    def command(self, pid: str, out: str) -> list[str]:
        return ["perf", "record", *self._words, "-p", pid, "-o", out]

    def ready(self, pid: int) -> bool:
        return waits(pid, POLL) and holds(pid, "[perf_event]")

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.perf_data(out.read_bytes())


class PerfTrace(PerfRecord):
    """perf trace, whose output is text. By process it does not follow children."""

    def command(self, pid: str, out: str) -> list[str]:
        return ["perf", "trace", *self._words, "-p", pid, "-o", out]

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.perf_trace(out.read_text(encoding="utf-8", errors="replace") + said)


class PerfTraceAll(PerfTrace):
    """perf trace of all processes that there are, since it has no other way to trace children."""

    def command(self, pid: str, out: str) -> list[str]:
        return ["perf", "trace", *self._words, "-a", "-o", out]


class TraceCmd(Tracer):
    """trace-cmd."""

    key = "trace-cmd"
    title = "trace-cmd, exceptions:page_fault_user"

    def command(self, pid: str, out: str) -> list[str]:
        event = "exceptions:page_fault_user"
        return ["trace-cmd", "record", "-e", event, "-P", pid, "-c", "-o", out]

    def ready(self, pid: int) -> bool:
        enabled = (TRACING / "events/exceptions/page_fault_user/enable").read_text(encoding="ascii")
        on = (TRACING / "tracing_on").read_text(encoding="ascii")
        return enabled.strip() == "1" and on.strip() == "1" and waits(pid, SLEEP)

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.trace_cmd(run("trace-cmd", "report", "--stat", str(out)))


class KprobeEvent(Tracer):
    """An event of tracefs on the same function, read as text."""

    key = "kprobe-event"
    title = "tracefs kprobe event, 2 arguments"
    _event = "events/benchmark/fault"

    def command(self, pid: str, out: str) -> list[str]:
        return ["sh", "-c", f"exec cat {INSTANCE}/trace_pipe >{out}"]

    def shown(self) -> str:
        return (
            "echo 'p:benchmark/fault handle_mm_fault address=%si:x64 flags=%dx:x32' "
            ">kprobe_events; set_event_pid=PID, options/event-fork=1; cat trace_pipe >FILE"
        )

    def set_up(self, pid: int) -> None:
        (TRACING / "kprobe_events").write_text(
            "p:benchmark/fault handle_mm_fault address=%si:x64 flags=%dx:x32", encoding="ascii"
        )
        INSTANCE.mkdir()
        for file, value in (
            ("set_event_pid", str(pid)),
            ("options/event-fork", "1"),
            (f"{self._event}/enable", "1"),
        ):
            (INSTANCE / file).write_text(value, encoding="ascii")

    def ready(self, pid: int) -> bool:
        return holds(pid, "trace_pipe") and probed()

    def _left(self) -> int:
        stats = (file.read_text(encoding="ascii") for file in INSTANCE.glob("per_cpu/cpu*/stats"))
        return sum(int(text.split("entries: ")[1].split()[0]) for text in stats)

    def stop(self, process: subprocess.Popen[str]) -> None:
        (INSTANCE / f"{self._event}/enable").write_text("0", encoding="ascii")
        # It has read all, written all, and reads again.
        wait_for(
            lambda: self._left() == 0 and waits(process.pid, READ), "trace_pipe is empty"
        )
        super().stop(process)

    def tear_down(self) -> None:
        INSTANCE.rmdir()
        (TRACING / "kprobe_events").write_text("", encoding="ascii")

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.trace_pipe(out.read_text(encoding="utf-8", errors="replace"), "fault")


class Bpftrace(Tracer):
    """bpftrace, printing a line for each fault of the control group that the workload is in."""

    def __init__(self, key: str, title: str, probe: str, address: str) -> None:
        self.key, self.title, self._probe, self._address = key, title, probe, address

    def command(self, pid: str, out: str) -> list[str]:
        program = (
            f'{self._probe} /cgroup == cgroupid("{CGROUP}")/ '
            f'{{ printf("F %llx\\n", {self._address}); }}'
        )
        return ["bpftrace", "-o", out, "-e", program]

    def set_up(self, pid: int) -> None:
        # What the tracer before it had attached may go a moment after its end.
        wait_for(lambda: not probed(), "nothing else is attached")

    def ready(self, pid: int) -> bool:
        return probed() and waits(pid, EPOLL)

    def counts(self, out: Path, said: str) -> peers.Counts:
        return peers.bpftrace(out.read_text(encoding="utf-8", errors="replace") + said)


RECORD = Ours("record", "fault-tracer record (side-band, follow)", "record")
BY_KPROBE = Ours(
    "record-kprobe", "fault-tracer record --hook kprobe", "record", "--hook", "kprobe"
)
LATENCY = Latency("latency", "fault-tracer record --latency", "record", "--latency")
PERF_TRACE = ("perf-trace", "perf trace -F all", "-F", "all", "--no-syscalls")
PEERS: tuple[Tracer, ...] = (
    PerfRecord("perf-faults", "perf record, page-faults", "-e", "page-faults", "-c", "1", "-d"),
    PerfRecord(
        "perf-exceptions",
        "perf record, exceptions:page_fault_user",
        "-e",
        "exceptions:page_fault_user",
    ),
    PerfTrace(*PERF_TRACE),
    TraceCmd(),
    KprobeEvent(),
    Bpftrace("bpftrace-kprobe", "bpftrace, kprobe", "kprobe:handle_mm_fault", "arg1"),
    Bpftrace(
        "bpftrace-fentry", "bpftrace, fentry", "fentry:vmlinux:handle_mm_fault", "args.address"
    ),
)
# Who called: the stack of each fault, by frame pointers and as a copy.
STACKS = (
    Ours("stacks-fp", "fault-tracer record, stacks by fp", "record", "--call-graph", "fp"),
    Ours("stacks-dwarf", "fault-tracer record -g (8 KiB)", "record", "--call-graph", "dwarf,8192"),
)
PERF_STACKS = tuple(
    PerfRecord(
        f"perf-{key}",
        f"perf record, page-faults, {title}",
        *["-e", "page-faults", "-c", "1", "--call-graph", how],
    )
    for key, title, how in (
        ("stacks-fp", "stacks by fp", "fp"),
        ("stacks-dwarf", "stacks of 8 KiB", "dwarf,8192"),
    )
)
ALL: tuple[Tracer, ...] = (
    EmptyKprobe(),
    Miss(),
    Ours("drain", "fault-tracer drain (faults alone, CSV)", "drain"),
    RECORD,
    BY_KPROBE,
    LATENCY,
    *STACKS,
    Log(),
    *PEERS,
    *PERF_STACKS,
)
# Those that trace children, too.
FOLLOWING: tuple[Tracer, ...] = (
    RECORD,
    LATENCY,
    *(PerfTraceAll(*PERF_TRACE) if isinstance(peer, PerfTrace) else peer for peer in PEERS),
)
