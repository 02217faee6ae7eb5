#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes the tables of the benchmark from what the guests measured.

It reads icount.json and wall.json of a folder, or the one that is there, and writes benchmarks.txt
and benchmarks.json there and, if asked to, the Markdown document. It claims nothing that is not in
the figures; what a person has to say about them stands in notes.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NOTES = Path(__file__).with_name("notes.md")
NOTHING = "–"


# ---------------------------------------------------------------- a document of text and tables


@dataclass
class Table:
    """Cells of text; the first column holds names, the others numbers."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def lines(self, markdown: bool) -> Iterable[str]:
        """Aligned in either form."""
        cells = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]

        def line(row: Sequence[str]) -> str:
            padded = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

        yield line(self.columns)
        if markdown:
            rules = [
                "-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)
            ]
            yield f"| {' | '.join(rules)} |"
        else:
            yield "  ".join("-" * width for width in widths)
        for row in self.rows:
            yield line(row)


@dataclass
class Heading:
    """A title of a section."""

    level: int
    text: str


Block = str | Table | Heading


def render(blocks: Iterable[Block], markdown: bool) -> str:
    """The document; each block stands apart."""
    parts = []
    for block in blocks:
        if isinstance(block, Table):
            parts.append("\n".join(block.lines(markdown)))
        elif isinstance(block, Heading):
            if markdown:
                parts.append(f"{'#' * block.level} {block.text}")
            else:
                parts.append(f"{block.text}\n{'=-~'[block.level - 1] * len(block.text)}")
        else:
            parts.append(block)
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------- numbers as text


def whole(value: float | None) -> str:
    """1,234"""
    return NOTHING if value is None else f"{value:,.0f}"


def tenths(value: float | None) -> str:
    """1,234.5"""
    return NOTHING if value is None else f"{value:,.1f}"


def times(value: float | None) -> str:
    """1.23"""
    return NOTHING if value is None else f"{value:.2f}"


def spread(summary: dict, shape=times) -> str:
    """From the least to the most."""
    return f"{shape(summary['least'])} … {shape(summary['most'])}"


# ---------------------------------------------------------------- the goals


@dataclass(frozen=True)
class Goal:
    """A figure to reach and the figure that was; None where it was not measured."""

    what: str
    goal: str
    reached: str
    met: bool | None

    def row(self) -> Sequence[str]:
        """Of the table of goals."""
        return (
            self.what,
            self.goal,
            self.reached,
            {True: "yes", False: "no", None: NOTHING}[self.met],
        )


def _at_most(what: str, most: float, value: float | None, unit: str, shape=whole) -> Goal:
    goal = f"≤ {most:,} {unit}"
    if value is None:
        return Goal(what, goal, "", None)
    return Goal(what, goal, f"{shape(value)} {unit}", value <= most)


# Counts of instructions differ by as much from run to run.
SAME_INSTRUCTIONS = 25


def goals(icount: dict, wall: dict) -> list[Goal]:
    """Those of the project, in its order."""
    rows = {row["key"]: row for row in icount.get("per-fault", {}).get("rows", [])}

    def of(key: str, figure: str) -> float | None:
        return rows.get(key, {}).get(figure)

    result = [
        _at_most(what, most, of(key, "added"), "instructions")
        for what, most, key in (
            ("target miss", 40, "miss"),
            ("record, with side-band and follow", 165, "record"),
            ("likewise, by the kprobe", 320, "record-kprobe"),
            ("latency mode", 450, "latency"),
        )
    ]
    for key, what in (("stacks-fp", "stacks by fp"), ("stacks-dwarf", "stacks of 8 KiB")):
        ours, theirs = of(key, "added"), of(f"perf-{key}", "added")
        if ours is not None and theirs:
            percent = 100 * ours / theirs
            result.append(_at_most(what, 50, percent, "% of what perf adds"))
    if growth := icount.get("growth"):
        added = [row["added"] for row in growth["targets"]]
        most = growth["targets"][-1]["value"]
        more = max(added) - min(added)
        result.append(
            Goal(
                f"1 to {most:,} targets",
                f"no difference (± {SAME_INSTRUCTIONS})",
                f"{whole(more)} instructions",
                more <= SAME_INSTRUCTIONS,
            )
        )
    if cpus := wall.get("cpus"):
        what = f"a fault on {cpus['rows'][-1]['value']} CPUs"
        result.append(_at_most(what, 2, cpus["more_percent"], "% more", tenths))
    if sustained := wall.get("sustained"):
        result.append(
            Goal(
                f"{sustained['cpus']} CPUs that do nothing but fault, {sustained['seconds']:.0f} s",
                "0 lost",
                f"{whole(sustained['lost'])} lost",
                sustained["lost"] == 0,
            )
        )
    result.append(
        _at_most("recorder", 600, of("record", "recorder_per_fault"), "instructions a fault")
    )
    size = of("record", "bytes_per_event")
    result.append(_at_most("file, addresses at random", 14, size, "bytes a fault", tenths))
    compilation = wall.get("wall-time", {}).get("compilation", {}).get("rows", [])
    done = {row["key"]: row for row in compilation if "failed" not in row}
    if ours := done.get("record"):
        value = ours["bytes_per_event"]
        result.append(_at_most("file, compilation", 14, value, "bytes a fault", tenths))
        if theirs := done.get("perf-faults"):
            percent = 100 * ours["recorder_s"]["median"] / theirs["recorder_s"]["median"]
            what = "recorder's CPU, compilation"
            result.append(_at_most(what, 100, percent, "% of perf record's"))
    return result


# ---------------------------------------------------------------- the parts


def per_fault(part: dict) -> Iterable[Block]:
    """Part 1."""
    yield Heading(2, "Instructions added to a fault")
    base = part["rows"][0].get("untraced")
    yield (
        f"One thread touches {part['pages']:,} anonymous pages in a random order, {part['rounds']} "
        "times, each time giving them back, while it is traced, and as often before and after. "
        "The figures are the medians of these rounds, traced less untraced"
        + (f" ({whole(base['median'])} instructions a fault)" if base else "")
        + ", of the CPU time of that thread alone. It includes what the tracer does on its behalf "
        "(the probe, the record, waking the recorder) and nothing of the tracer's own programs, "
        "although they share its CPU."
    )
    yield (
        "“Recorder” is the CPU time of the tracer's programs from when they traced to their end, "
        "less that of a run in which nothing faulted, for each event written: reading the "
        "buffers, formatting, compressing, writing the file (on tmpfs). A negative figure is less "
        "than the differences between two such runs. “Bytes” is what the file grew by for each "
        "event. “Lost” is what the tracer itself says; it is to be compared with faults less "
        "events."
    )
    table = Table(
        (
            "tracer",
            "added (instructions)",
            "least (instructions)",
            "recorder (instructions / event)",
            "bytes / event",
            "faults",
            "events",
            "lost",
        )
    )
    for row in part["rows"]:
        if "failed" in row:
            table.rows.append((row["title"], "not measured", *[NOTHING] * 6))
            continue
        table.rows.append(
            (
                row["title"],
                whole(row["added"]),
                whole(row["added_least"]),
                whole(row["recorder_per_fault"]),
                tenths(row["bytes_per_event"]),
                whole(row["faults"]),
                whole(row["events"]),
                whole(row["lost"]),
            )
        )
    yield table
    yield from commands(part["rows"])


def commands(rows: Iterable[dict]) -> Iterable[Block]:
    """What was run exactly, and what failed."""
    rows = list(rows)
    yield "The commands:"
    yield "\n".join(f"- {row['title']}: `{row['command']}`" for row in rows)
    failed = [f"- {row['title']}: {row['failed']}" for row in rows if "failed" in row]
    if failed:
        yield "Not measured:"
        yield "\n".join(failed)


def wall_time(part: dict) -> Iterable[Block]:
    """Part 2."""
    yield Heading(2, "Time of real work")
    yield (
        "Each repetition does the work untraced, and then under each tracer, which follows all "
        "children. “Ratio” is the time under the tracer over the untraced time of the same "
        "repetition; the spread is that of all repetitions. The tracer's programs share the CPUs "
        "with the work. Under emulation on a machine that does other things too, ratios below the "
        "spread mean nothing."
    )
    for work in part.values():
        yield Heading(3, work["title"][0].upper() + work["title"][1:])
        base = work["untraced"]
        yield (
            f"Untraced: {times(base['median'])} s ({spread(base)} s, {base['repetitions']} "
            "repetitions)."
        )
        table = Table(
            (
                "tracer",
                "ratio",
                "spread",
                "recorder (s of CPU)",
                "events / repetition",
                "lost",
                "bytes / event",
            )
        )
        for row in work["rows"]:
            if "failed" in row:
                table.rows.append((row["title"], "not measured", *[NOTHING] * 5))
                continue
            table.rows.append(
                (
                    row["title"],
                    times(row["ratio"]["median"]),
                    spread(row["ratio"]),
                    times(row["recorder_s"]["median"]),
                    whole(row["events"]),
                    whole(row["lost"]),
                    tenths(row["bytes_per_event"]),
                )
            )
        yield table
    yield from commands(next(iter(part.values()))["rows"])


def sustained(part: dict) -> Iterable[Block]:
    """Part 3: a minute of faults."""
    yield Heading(3, "Sustained")
    yield (
        f"{part['cpus']} processes, one for each CPU, do nothing but touch memory and give it back "
        f"for {part['seconds']:.0f} s under `fault-tracer record` with its default settings."
    )
    table = Table(("what", "figure", "unit"))
    table.rows += [
        ("faults made by the processes", whole(part["faults"]), "faults"),
        ("faults recorded", whole(part["events"]), "faults"),
        ("lost", whole(part["lost"]), "faults"),
        ("rate recorded", whole(part["per_s"]), "faults / s"),
        ("rate of the same processes untraced", whole(part["untraced_per_s"]), "faults / s"),
        ("file", tenths(part["bytes_per_event"]), "bytes / fault"),
        ("file", times(part["file_mb_per_s"]), "MB / s"),
        ("recorder", whole(100 * part["recorder_share"]), "% of one CPU"),
        ("recorder", whole(part["recorder_ns_per_fault"]), "ns / fault"),
    ]
    yield table


def drain(icount: list[dict] | None, wall: list[dict] | None) -> Iterable[Block]:
    """Part 3: emptying rings."""
    yield Heading(3, "Emptying the rings")
    yield (
        "How fast the client takes records out of rings that were filled before, by "
        "`ft-drain-rate`: the taking alone, without a look at the records."
    )
    table = Table(
        ("by", "instructions / fault", "ns / fault", "faults / s", "MB / s", "spread (MB / s)")
    )
    names = {"call": "ioctl", "mapping": "mmap"}
    exact = {way["by"]: way for way in icount or []}
    timed = {way["by"]: way for way in wall or []}
    for by, name in names.items():
        instructions = exact.get(by, {}).get("ns_per_fault", {}).get("median")
        row = [name, tenths(instructions)]
        if way := timed.get(by):
            row += [
                whole(way["ns_per_fault"]["median"]),
                whole(way["faults_per_s"]["median"]),
                tenths(way["mb_per_s"]["median"]),
                spread(way["mb_per_s"], tenths),
            ]
        else:
            row += [NOTHING] * 4
        table.rows.append(row)
    yield table


def beyond(part: dict) -> Iterable[Block]:
    """Part 3: past the limit."""
    yield Heading(3, "Beyond the limit")
    account = part["account"]
    yield (
        f"The recorder (`{part['command']}`) is stopped while the process makes "
        f"{whole(part['faults'])} faults, which do not fit in the ring."
    )
    table = Table(("account", "faults"))
    table.rows += [(key, whole(value)) for key, value in account.items()]
    yield table
    verdict = (
        "hits = recorded + dropped, and recorded is what is in the file"
        if part["exact"]
        else "the account does NOT close"
    )
    said = "".join(f"\n    {line}" for line in part["verify"])
    yield (
        f"The account: {verdict}. `fault-tracer verify` ends with status {part['verify_status']}"
        + (f" and says:\n{said}" if said else ".")
    )


GROWTH = {
    "targets": (
        "Targets",
        "targets",
        "One session whose targets are so many processes; one faults.",
    ),
    "sessions_same": (
        "Sessions of one process",
        "sessions",
        "So many recorders of the same process.",
    ),
    "sessions_others": (
        "Sessions of other processes",
        "sessions",
        "So many recorders, only one of them of the process that faults.",
    ),
    "rings_kib": ("Rings", "KiB / CPU", "`record --ring-kib`."),
    "mappings": (
        "Mappings",
        "mappings",
        "Pages of so many mappings are touched in a random order: neighbours in time are of "
        "different ones. A CPU's table has 2,047 places.",
    ),
}


def growth(part: dict) -> Iterable[Block]:
    """Part 4, in instructions."""
    for key, (title, unit, text) in GROWTH.items():
        yield Heading(3, title)
        yield text
        table = Table(
            (unit, "untraced (instructions)", "added (instructions)", "events", "lost"),
        )
        for row in part[key]:
            table.rows.append(
                (
                    whole(row["value"]),
                    whole(row["untraced"]),
                    whole(row["added"]),
                    whole(row["events"]),
                    whole(row["lost"]),
                )
            )
        yield table


def cpus(part: dict) -> Iterable[Block]:
    """Part 4, in time."""
    yield Heading(3, "CPUs")
    yield (
        "One process on each of so many CPUs, all at the same time, traced by one `fault-tracer "
        "record`; the four cases by turns. Instructions cannot be counted on several CPUs, so "
        "this is CPU time of the faulting processes; the quickest rounds are compared, since a "
        "disturbance only ever adds."
    )
    table = Table(
        (
            "CPUs",
            "untraced, least (ns)",
            "traced, least (ns)",
            "added, least (ns)",
            "untraced, median (ns)",
            "traced, median (ns)",
            "rounds",
        )
    )
    for row in part["rows"]:
        table.rows.append(
            (
                whole(row["value"]),
                whole(row["untraced"]["least"]),
                whole(row["traced"]["least"]),
                whole(row["added_least"]),
                whole(row["untraced"]["median"]),
                whole(row["traced"]["median"]),
                whole(row["traced"]["repetitions"]),
            )
        )
    yield table
    yield (
        f"Tracing on all of them adds {tenths(part['more_percent'])} % of a fault more than on "
        f"one; the untraced fault itself takes {tenths(part['untraced_more_percent'])} % more. "
        f"{whole(part['lost'])} faults were lost."
    )


# ---------------------------------------------------------------- all


def machine_lines(machine: dict, qemu: str) -> str:
    """Versions of all that takes part."""
    pairs = (
        ("emulator", f"{qemu}; its processor is “{machine['cpu']}”"),
        ("guest", f"Linux {machine['kernel']}, {machine['memory_mib']:,} MiB"),
        ("fault-tracer", machine["fault_tracer"]),
        ("peers", f"{machine['perf']}, {machine['trace_cmd']}, {machine['bpftrace']}"),
        ("compiler", machine["gcc"]),
    )
    return "\n".join(f"- {name}: {text}" for name, text in pairs)


# What each boot measures, by the names of the parts.
PARTS = {
    "icount": ("per-fault", "drain", "growth"),
    "wall": ("sustained", "beyond", "cpus", "drain", "wall-time"),
}


def usable(boot: dict) -> dict:
    """The parts that were measured."""
    return {
        name: part
        for name, part in boot["parts"].items()
        if not isinstance(part, dict) or "failed" not in part
    }


def nothing(clock: str, other: dict) -> dict:
    """What a boot that there was not measured, on the machine of the other."""
    return {
        "clock": clock,
        "quick": other["quick"],
        "machine": other["machine"],
        "parts": {},
        "builds": {},
    }


def document(icount: dict, wall: dict, qemu: str, notes: str) -> list[Block]:
    """The whole document."""
    quick = icount["quick"] or wall["quick"]
    exact, timed = usable(icount), usable(wall)
    blocks: list[Block] = [
        Heading(1, "Benchmarks"),
        "What a fault costs under fault-tracer and under other tracers. Written by `make bench`, "
        "which repeats all of it in the sandbox (about 25 minutes without hardware "
        "virtualization), with the same tables as text and all figures as JSON in `out/bench/`. "
        "`scripts/bench --part NAME` repeats a part, `scripts/bench --quick` shows that all of "
        "it works.",
    ]
    if quick:
        blocks.append("**Made with --quick: the sizes are tiny and the figures of no use.**")
    blocks += [
        "Instructions are counted in a guest whose clock advances by one nanosecond for each "
        "instruction (`scripts/vm run --icount`): one CPU, and figures that repeat on any "
        f"machine. Times are those of a guest with {wall['machine']['cpus']} CPUs. What is "
        "compared was measured within one boot.",
        machine_lines(wall["machine"], qemu),
        Heading(2, "Goals"),
    ]
    if len({*icount["builds"].values(), *wall["builds"].values()}) > 1:
        blocks.append("Parts were measured anew (`--part`) with a later build than the others.")
    table = Table(("what", "goal", "measured", "reached"))
    table.rows += [goal.row() for goal in goals(exact, timed)]
    blocks.append(table)
    blocks += [
        f"**{name} could not be measured: {part['failed']}**"
        for boot in (icount, wall)
        for name, part in boot["parts"].items()
        if name not in usable(boot)
    ]
    missing = [
        part
        for boot in (icount, wall)
        for part in PARTS[boot["clock"]]
        if part not in boot["parts"]
    ]
    if missing:
        blocks.append(
            "Not measured with this build yet: "
            + ", ".join(f"`scripts/bench --part {part}`" for part in missing)
            + "."
        )
    if notes.strip():
        blocks.append(notes.strip())
    if "per-fault" in exact:
        blocks += per_fault(exact["per-fault"])
    if "wall-time" in timed:
        blocks += wall_time(timed["wall-time"])
    blocks.append(Heading(2, "Rates"))
    if "sustained" in timed:
        blocks += sustained(timed["sustained"])
    blocks += drain(exact.get("drain"), timed.get("drain"))
    if "beyond" in timed:
        blocks += beyond(timed["beyond"])
    blocks.append(Heading(2, "How the cost grows"))
    if "cpus" in timed:
        blocks += cpus(timed["cpus"])
    if "growth" in exact:
        blocks += growth(exact["growth"])
    return blocks


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of icount.json and wall.json")
    parser.add_argument("--qemu", required=True, help="the emulator's version")
    parser.add_argument("--markdown", type=Path, help="the document to write")
    arguments = parser.parse_args()
    read = {
        clock: json.loads(file.read_text(encoding="utf-8"))
        for clock in PARTS
        if (file := arguments.folder / f"{clock}.json").exists()
    }
    if not read:
        parser.error(f"there are no figures in {arguments.folder}")
    for clock in PARTS:
        read.setdefault(clock, nothing(clock, next(iter(read.values()))))
    icount, wall = read["icount"], read["wall"]
    blocks = document(icount, wall, arguments.qemu, NOTES.read_text(encoding="utf-8"))
    text = render(blocks, markdown=False)
    (arguments.folder / "benchmarks.txt").write_text(text, encoding="utf-8")
    reached = goals(usable(icount), usable(wall))
    combined = {"emulator": arguments.qemu, "goals": [vars(goal) for goal in reached], **read}
    (arguments.folder / "benchmarks.json").write_text(
        json.dumps(combined, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if arguments.markdown:
        arguments.markdown.write_text(render(blocks, markdown=True), encoding="utf-8")
    for goal in reached:
        print("  ".join(goal.row()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
