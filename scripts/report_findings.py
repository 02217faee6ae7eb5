#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Write docs/report.md from the traces of the report's workloads.

The text is made of what the detectors of fault_trends.py return and of numbers counted
here, and of nothing else, so it cannot claim what the data do not show.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import plot_faults as pf
from fault_trends import Finding, ReportError, Trace, clock, find_all, join, percent
from plot_faults import counted, size_text

# A workload in which less is seen calls for a look at the detectors.
LEAST_FINDINGS = 2


# ---------------------------------------------------------------- what is traced


@dataclass(frozen=True)
class Workload:
    """What the report says of a workload before it looks at the trace."""

    name: str  # of its files
    title: str
    about: str
    size: str = "1100x760"  # of its picture, as the options of plot_faults.py
    dpi: int = 100


WORKLOADS = (
    Workload(
        "kernel-compile",
        "Kernel compilation: fs/minix as a module",
        "The kernel's own build compiles the minix file system from the kernel source, with two "
        "jobs: make and its shells, compiler, assembler, linker and the steps after them, with all "
        "their processes.",
        # Wide, for the note below it; at this resolution the many points stay below 300 KB.
        "1440x1000",
        85,
    ),
    Workload(
        "sysbench-cpu",
        "sysbench cpu, 2 threads",
        "Two threads look for prime numbers; the benchmark itself needs almost no memory.",
    ),
    Workload(
        "sysbench-memory",
        "sysbench memory, 4 threads, 1 MiB each",
        "Four threads write over and over a buffer of their own of 1 MiB.",
    ),
    Workload(
        "sysbench-fileio",
        "sysbench fileio, mmap, 64 MiB at random",
        "Two threads read and write pages of a mapped file of 64 MiB, on tmpfs, at random; the "
        "rate of requests is fixed, so that the order in which the file is reached can be seen.",
    ),
    Workload(
        "iperf3",
        "iperf3 over loopback, server and client",
        "A shell starts server and client, which send over two connections; both are traced.",
    ),
)

LOSS_ADVICE = (
    "a report must not stand on a part of the faults: raise RING_KIB in "
    "scripts/report-workloads, or run it when the machine is less busy"
)


def load_trace(path: Path) -> Trace:
    """Load a recording, and refuse one that is damaged or incomplete."""
    recording = pf.load_file(str(path))
    if recording.warnings:
        raise ReportError(f"{path}: {recording.warnings[0]}; run make report again")
    if recording.losses is None:
        raise ReportError(f"{path} does not say how many faults were lost; run make report again")
    if recording.losses.total:
        raise ReportError(f"{path}: {pf.loss_text(recording.losses)[0]}; {LOSS_ADVICE}")
    return Trace(recording)


def read_machine(path: Path) -> dict[str, str]:
    """Read what the guest said of itself, as "key: value"."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}; run make report again") from error
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is damaged: {error}; run make report again") from error
    machine = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wanted = {"kernel", "cpus", "cpu", "memory_kib", "huge_pages", "gcc", "sysbench", "iperf3"}
    if lacking := sorted(key for key in wanted if not machine.get(key)):
        raise ReportError(f"{path} lacks {join(lacking)}; run make report again")
    if not re.fullmatch(r"[0-9]{1,15}", machine["memory_kib"]):
        raise ReportError(
            f"{path}: memory_kib: expected a number, found {pf.shown(machine['memory_kib'])}; "
            "run make report again"
        )
    return machine


def command_of(trace: Trace) -> str:
    """Return the command traced, quoted no more than a shell needs."""
    command = trace.recording.metadata.get("command", "unknown")
    try:
        return shlex.join(shlex.split(command))
    except ValueError as error:
        raise ReportError(
            f"{trace.recording.name}: the command {pf.shown(command)} is no shell's: {error}; "
            "run make report again"
        ) from error


def partitions(trace: Trace) -> list[tuple[str, list[tuple[str, int]]]]:
    """Divide all faults in three ways; each way's numbers add up to all."""

    def row(name: str, mask: np.ndarray) -> tuple[str, int]:
        return name, int(mask.sum())

    return [
        (
            "Access",
            [
                row("read (blue)", trace.read),
                row("write (orange)", trace.write),
                row("instruction fetch (green)", trace.execute),
            ],
        ),
        (
            "Memory",
            [
                row("anonymous", trace.anonymous),
                row("private file", trace.private_file),
                row("shared", trace.shared),
            ],
        ),
        (
            "Made by",
            [
                row("user mode", trace.user),
                row("kernel, for the process", trace.from_kernel),
                row("`get_user_pages`, `exec`", trace.gup),
            ],
        ),
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Make a Markdown table whose first `left` columns are text and whose others are numbers."""
    lines = [f"| {' | '.join(header)} |"]
    lines.append("|" + "|".join("---" if i < left else "---:" for i in range(len(header))) + "|")
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return lines


def counts_table(trace: Trace) -> list[str]:
    """Make the table of a workload's faults."""
    rows = [["All", "", f"{trace.total:,}", "100 %"]]
    for title, parts in partitions(trace):
        for name, count in parts:
            rows.append([title, name, f"{count:,}", trace.share(count)])
            title = ""
    for name, mask in (
        ("translation present: copy-on-write or write after read", trace.present),
        ("`tried`: a further attempt after waiting", trace.tried),
    ):
        count = int(mask.sum())
        title = "Of these" if mask is trace.present else ""
        rows.append([title, name, f"{count:,}", trace.share(count)])
    return table(["", "", "faults", "share"], rows, left=2)


def rate_text(rate: float) -> str:
    """Write a rate with two or three digits that count."""
    if rate >= 10_000:
        return f"{rate / 1000:.0f},000"
    return f"{round(rate, -1 if rate < 1000 else -2):,.0f}"


def facts(trace: Trace) -> str:
    """Say in one line what else was counted."""
    rate, at = trace.peak_rate
    programs = len(trace.programs)
    return (
        f"{counted(trace.processes, 'process', 'processes')} with "
        f"{counted(trace.threads, 'thread')}, {counted(programs, 'program')} started by `exec`; "
        f"{trace.span:.{0 if trace.span >= 50 else 1}f} s on the emulated clock; peak "
        f"{rate_text(rate)} faults/s over 1 % of the run, at {clock(at, trace.span)}; lost: "
        f"{trace.recording.losses.total}."
    )


def workload_section(
    workload: Workload,
    trace: Trace,
    findings: Sequence[Finding],
    figure: str,
    advised: dict[str, str],
) -> list[str]:
    """Write what is said of one workload; `advised` holds where each advice was given first."""
    lines = [
        f"## {workload.title}",
        "",
        workload.about,
        "",
        "```sh",
        command_of(trace),
        "```",
        "",
        f"[![{workload.title}: faults over time and address]({figure})]({figure})",
        "",
        facts(trace),
        "",
        *counts_table(trace),
        "",
        "### What can be seen",
        "",
    ]
    for number, finding in enumerate(findings, 1):
        mark = f"{number}. "
        indent = " " * len(mark)
        lines += [f"{mark}**{finding.name}.** {finding.text}", ""]
        lines += [f"{indent}*In the picture:* {finding.place}.", ""]
        if first := advised.get(finding.name):
            lines += [f"{indent}*Worth trying:* as under “{first}”.", ""]
        else:
            advised[finding.name] = workload.title
            lines += [f"{indent}*Worth trying:* {finding.advice}", ""]
    return lines


def file_faults_per_program(trace: Trace) -> float:
    """Count faults on private file pages for each exec: the cost of loading a program."""
    return trace.private_file.sum() / max(len(trace.programs), 1)


def course(trace: Trace) -> tuple[str, float]:
    """Tell when a workload faults, and the part of the faults that says so.

    "throughout", or else by the lives of its long programs: "start" where their first fifth
    holds 80 % of their faults, "ends" where it does so with the last 2 % of the run, "fading".
    """
    if trace.steadiness >= 0.8:
        return "throughout", trace.steadiness
    start = end = total = 0
    for index, life in enumerate(trace.lives):
        length = life.end - life.start
        if length < 0.1 * trace.span:
            continue
        times = trace.time[trace.life == index]
        early = times <= life.start + 0.2 * length
        start += int(early.sum())
        end += int((~early & (times >= 0.98 * trace.span)).sum())
        total += life.faults
    total = max(total, 1)
    if start >= 0.8 * total:
        return "start", start / total
    if start + end >= 0.8 * total:
        return "ends", (start + end) / total
    return "fading", start / total


COURSES = {
    "throughout": "never stops: {} of 20 equal parts of its run see a quarter of its mean rate",
    "start": "faults at the start: {} within the first fifth of its long programs' lives",
    "ends": "faults at the start and at its end: {} within the first fifth and the last 2 %",
    "fading": "starts with {} in the first fifth and fades, with faults long after",
}


def comparison(traces: dict[str, Trace]) -> list[str]:
    """Compare the workloads."""
    rows = []
    for name, trace in traces.items():
        rows.append(
            [
                name,
                f"{trace.total:,}",
                f"{trace.processes:,}",
                f"{trace.total / trace.processes:,.0f}",
                f"{file_faults_per_program(trace):,.0f}",
                trace.share(trace.anonymous.sum()),
                trace.share(trace.private_file.sum()),
                trace.share(trace.shared.sum()),
                percent(trace.done_by(0.5)),
                percent(trace.done_by(0.9)),
            ]
        )
    header = [
        "",
        "faults",
        "processes",
        "faults per process",
        "private file faults per exec",
        "anonymous",
        "private file",
        "shared",
        "half of them by",
        "90 % by",
    ]
    lines = ["## The workloads beside each other", "", *table(header, rows), ""]
    lines += ["(The last two columns: parts of the run's duration.)", ""]

    points = []
    for name, trace in traces.items():
        word, share = course(trace)
        number = f"{share * 20:.0f}" if word == "throughout" else percent(share)
        points.append(f"- **{name}** {COURSES[word].format(number)}.")
    lines += ["**Who faults when.**", "", *points, ""]

    said = []
    for name, trace in traces.items():
        if len(trace.programs) < 20:
            continue
        costs = np.array([life.faults for life in trace.programs])
        floor = int(np.percentile(costs, 10))
        said.append(
            f"In **{name}** starting programs is a cost of its own: {len(costs)} execs at {floor} "
            f"faults (what nine in ten exceed) are {trace.share(floor * len(costs))} of its "
            f"faults, and {trace.share(trace.private_file.sum())} of all faults are on private "
            "file pages, which is where executables and libraries are."
        )
    loading = sorted(traces.items(), key=lambda item: file_faults_per_program(item[1]))
    if len(loading) > 1:
        (least, a), (most, b) = loading[0], loading[-1]
        factor = file_faults_per_program(b) / max(file_faults_per_program(a), 1e-9)
        if factor >= 1.5:
            said.append(
                f"Loading one program is cheapest in {least}, with "
                f"{file_faults_per_program(a):.0f} private file faults per exec, and dearest in "
                f"{most}, with {file_faults_per_program(b):.0f}, {factor:.1f} times as many."
            )
    if said:
        lines += ["**What starting costs.** " + " ".join(said), ""]

    shares = {name: float(trace.shared.mean()) for name, trace in traces.items()}
    leader = max(shares, key=lambda name: shares[name])
    others = [share for name, share in shares.items() if name != leader]
    if others and shares[leader] >= 0.1 and max(others) < 0.01:
        lines += [
            f"**Only {leader} faults on shared memory** ({percent(shares[leader])} of its "
            "faults); in all the others what faults is anonymous or a private page of a file.",
            "",
        ]
    silent = [
        f"{name} ({percent((trace.silence[1] - trace.silence[0]) / trace.span)})"
        for name, trace in traces.items()
        if trace.span and trace.silence[1] - trace.silence[0] >= 0.4 * trace.span
    ]
    if silent:
        lines += [
            "**Quiet for at least 40 % of the run**, with at most 1 % of their faults there: "
            f"{join(silent)}. Where such a program is slow in that time, page faults are not the "
            "reason.",
            "",
        ]
    return lines


def introduction(machine: dict[str, str], traces: dict[str, Trace]) -> list[str]:
    """Say what was traced, where, and how to read it."""
    total = sum(trace.total for trace in traces.values())
    lost = sum(trace.recording.losses.total for trace in traces.values())
    memory = size_text(int(machine["memory_kib"]) * 1024)
    emulated = "TCG" in machine["cpu"]
    return [
        "# Where real programs fault",
        "",
        "<!-- Generated by `make report` (scripts/report_findings.py): change that, not this. -->",
        "",
        f"{counted(len(traces), 'workload')}, {total:,} faults, {lost} lost. Each was traced from "
        "its first instruction, with all processes it starts, and drawn; what follows is what the "
        "pictures show, with the place that shows it. All of it was written by `make report` from "
        "the traces.",
        "",
        f"**Machine.** Linux {machine['kernel']}, {machine['cpus']} CPUs ({machine['cpu']}), "
        f"{memory} of memory, transparent huge pages “{machine['huge_pages']}”; gcc "
        f"{machine['gcc']}, sysbench {machine['sysbench']}, iperf3 {machine['iperf3']}. "
        + (
            "The CPUs are emulated in software (QEMU's TCG): counts and shapes are what "
            "to read; durations and rates are not those of a real machine."
            if emulated
            else "The CPUs are virtual: durations are those of a guest."
        ),
        "",
        "**Reading the pictures.** Time runs to the right, addresses upwards; only regions that "
        "faulted are drawn, one band each, named by the label on its right and the address at its "
        "foot. Blue is a read, orange a write, green an instruction fetch. Where many processes "
        "are traced, their address spaces lie over each other, aligned region by region.",
        "",
        "**Reading the numbers.** One fault is one entry into the kernel's `handle_mm_fault`. "
        "*Anonymous* is heap, stack and private memory; *private file* executables and libraries; "
        "*shared* what is mapped `MAP_SHARED`. A *program* is a process from one `exec` to the "
        "next. What is worth trying is a hypothesis that the trace suggests, not a result.",
        "",
    ]


def in_short(findings: dict[str, list[Finding]]) -> list[str]:
    """List the trends of each workload by name, those that concern most faults first."""
    lines = ["**In short.** What each picture shows, the heaviest first:", ""]
    for workload in WORKLOADS:
        if found := findings.get(workload.name):
            names = "; ".join(finding.name.lower() for finding in found[:5])
            more = f"; {counted(len(found) - 5, 'other')}" if len(found) > 5 else ""
            lines.append(f"- {workload.title}: {names}{more}.")
    return [*lines, ""]


def render(machine: dict[str, str], traces: dict[str, Trace], figures: str) -> str:
    """Write the report; `figures` is the folder of the pictures as the report's links name it."""
    found = {name: find_all(trace) for name, trace in traces.items()}
    for name, findings in found.items():
        if len(findings) < LEAST_FINDINGS:
            raise ReportError(
                f"{name}: {counted(len(findings), 'finding')}, expected {LEAST_FINDINGS} or more; "
                "look at its picture and at the detectors' criteria in scripts/fault_trends.py"
            )
    lines = [*introduction(machine, traces), *in_short(found)]
    advised: dict[str, str] = {}
    for workload in WORKLOADS:
        if (trace := traces.get(workload.name)) is None:
            continue
        figure = f"{figures}/{workload.name}.png"
        lines += workload_section(workload, trace, found[workload.name], figure, advised)
    lines += comparison(traces)
    return "\n".join(lines).rstrip() + "\n"


def missing_figures(markdown: str, folder: Path) -> list[str]:
    """List the local pictures that the text links to and that are not there."""
    links = re.findall(r"\]\(([^)]+\.(?:png|svg))\)", markdown)
    return sorted({link for link in links if not (folder / link).is_file()})


def run(arguments: argparse.Namespace) -> None:
    """Load the traces, write the report."""
    if arguments.workloads:
        for workload in WORKLOADS:
            print(workload.name, workload.size, workload.dpi, workload.title, sep="\t")
        return
    folder = Path(arguments.traces)
    output = Path(arguments.output)
    traces = {w.name: load_trace(folder / f"{w.name}.csv") for w in WORKLOADS}
    text = render(read_machine(folder / "machine.txt"), traces, "figures")
    if lacking := missing_figures(text, output.parent):
        raise ReportError(f"there is no {join(lacking)} beside {output}; run make report")
    beside = output.with_name(f".{output.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, output)
    for name, trace in traces.items():
        print(f"{name}: {trace.total:,} faults, {counted(len(find_all(trace)), 'finding')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Write the workloads' report from their traces.")
    parser.add_argument("traces", nargs="?", default="out/report", help="folder of NAME.csv")
    parser.add_argument("-o", "--output", default="docs/report.md", help="the report")
    parser.add_argument("--workloads", action="store_true", help="list name, size, dpi, title")
    try:
        run(parser.parse_args(argv))
    except (ReportError, pf.PlotError) as error:
        print(f"report_findings.py: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"report_findings.py: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
