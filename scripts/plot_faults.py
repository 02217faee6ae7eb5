#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Draw a recording of page faults as a scatter plot: time on x, address on y.

The input is the CSV that `fault-tracer drain` or `fault-tracer export -f csv` writes,
or, where pyarrow is installed, the trace of `fault-tracer record` itself. An address
space is almost entirely hole, so the y axis shows only the regions that faulted, one
band each, with the holes between them cut out and their size written in their place.

Where hundreds of processes are traced, each has its own random layout and no
axis of true addresses is readable: their addresses are then aligned, kind by
kind (executable, mappings, stack), on the edge of each process's own region.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import heapq
import io
import itertools
import os
import re
import sys
import textwrap
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

try:
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator
    from numpy.lib.recfunctions import repack_fields
except ImportError as missing:
    sys.exit(
        f"plot_faults.py: error: {missing}; install it with: apt-get install python3-matplotlib"
    )

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADER = "time_ns,cpu,pid,tid,address,ip,access,flags"
COLUMNS = tuple(HEADER.split(","))
SUFFIXES = (".png", ".svg", ".pdf")

ACCESS_CODES = {"r": 0, "w": 1, "x": 2}
ACCESS_NAMES = ("read", "write", "execute")
# How a trace of `fault-tracer record` begins: an Arrow IPC stream.
ARROW_START = b"\xff\xff\xff\xff"
# Okabe and Ito's palette: told apart with every common colour vision deficiency.
ACCESS_COLOURS = ("#0072B2", "#D55E00", "#009E73")

PAGE = 4096
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MAX_BANDS = 12
# Holes smaller than this are shown to scale: cutting them out explains nothing.
MIN_HOLE = MIB
# A hole is cut out only where it is at least this part of what it splits; otherwise
# pages touched at random in one big mapping would be torn into separate regions.
MIN_HOLE_PART = 0.05
# Aligned processes: holes above the first size shrink to the second.
ALIGN_HOLE, ALIGN_SHRUNK = 4 * MIB, MIB
# Above this many faults those that fall on the same spot are drawn once.
DRAW_EACH = 20_000
LINES_PER_CHUNK = 250_000
# Of a text that is not as it should be, so many characters are reported.
TEXT_SHOWN = 60
# In pixels: the height a hole is given, and what a band shows beyond its faults.
HOLE_PIXELS, BAND_PAD = 14, 5

INK, MUTED, FAINT, PAPER = "#1f2328", "#5b636d", "#c9ced6", "#f4f5f8"
GOOD, WARN, BAD = "#2e7d4f", "#8a5a00", "#c8102e"


class PlotError(Exception):
    """What went wrong and what to do about it, as one line for the user."""


def shown(text: str) -> str:
    """Quote text from a file for a message, which stays a line."""
    return repr(text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}…")


def printable(text: str) -> str:
    """Replace by blanks what is no character to draw, such as control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


# ---------------------------------------------------------------- loading


@dataclass(frozen=True)
class Losses:
    """The recording's own count of faults that are not in it."""

    dropped: int
    overwritten: int
    missed: int

    @property
    def total(self) -> int:
        """All faults lost, however it came about."""
        return self.dropped + self.overwritten + self.missed


@dataclass
class Recording:
    """The faults of one file, one array per column used, and what its comments say."""

    time_ns: np.ndarray
    pid: np.ndarray
    tid: np.ndarray
    address: np.ndarray
    access: np.ndarray
    flags: np.ndarray  # an index into flag_sets
    flag_sets: list[str]
    name: str
    metadata: dict[str, str] = field(default_factory=dict)
    losses: Losses | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the faults."""
        return len(self.time_ns)

    def select(self, chosen: np.ndarray) -> Recording:
        """Return the same recording with only the chosen faults (mask or indices)."""
        columns = ("time_ns", "pid", "tid", "address", "access", "flags")
        return replace(self, **{c: getattr(self, c)[chosen] for c in columns})

    def wall_start_ns(self) -> int | None:
        """Return when the first fault was, in nanoseconds since 1970, if that is known."""
        offset = self.metadata.get("wall_offset_ns", "")
        if not re.fullmatch(r"-?\d{1,19}", offset):
            return None
        start = int(self.time_ns[0]) + int(offset)
        # What is not a date of this era is no date.
        return start if 0 <= start < 1 << 62 else None

    def has_flag(self, name: str) -> np.ndarray:
        """Return a mask of the faults that carry the flag."""
        return np.array([name in s.split("|") for s in self.flag_sets] or [False])[self.flags]


def _hex(text: str) -> int:
    # int() alone would take blanks, signs and underscores too.
    if not (text.startswith("0x") and text.isalnum()):
        raise ValueError(f"{text!r} is not a hexadecimal number with 0x")
    return int(text[2:], 16)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a decimal number")
    return int(text)


def describe_damage(line: str) -> str | None:
    """Say what is wrong with a line of the CSV, or None where it is sound."""
    fields = line.rstrip("\n").split(",")
    if len(fields) != len(COLUMNS):
        return f"expected {len(COLUMNS)} fields ({HEADER}), found {len(fields)}"
    limits = {"time_ns": 63, "cpu": 32, "pid": 32, "tid": 32, "address": 64, "ip": 64}
    for column, text in zip(COLUMNS, fields, strict=True):
        if column == "access":
            if text not in ACCESS_CODES:
                return f"access: expected r, w or x, found {shown(text)}"
        elif column in limits:
            is_hex = column in ("address", "ip")
            try:
                value = _hex(text) if is_hex else _decimal(text)
            except ValueError:
                kind = "a hexadecimal number with 0x" if is_hex else "a decimal number"
                return f"{column}: expected {kind}, found {shown(text)}"
            if value >= 1 << limits[column]:
                return f"{column}: {text[:TEXT_SHOWN]} does not fit in {limits[column]} bits"
    return None


class _Codes(dict[str, int]):
    """Numbers for strings, given out in order of first appearance."""

    def __missing__(self, key: str) -> int:
        self[key] = len(self)
        return self[key]


def _parse_lines(lines: list[str], flag_codes: _Codes) -> np.ndarray:
    dtype = np.dtype(
        [
            ("time_ns", "i8"),
            ("cpu", "u4"),
            ("pid", "u4"),
            ("tid", "u4"),
            ("address", "u8"),
            ("ip", "u8"),
            ("access", "u1"),
            ("flags", "u4"),
        ]
    )
    with warnings.catch_warnings():
        # NumPy before 2 takes 7.5 for a whole number, with no more than this warning.
        warnings.simplefilter("error", DeprecationWarning)
        return np.loadtxt(
            lines,
            dtype=dtype,
            delimiter=",",
            comments=None,
            ndmin=1,
            encoding="utf-8",
            converters={
                4: _hex,
                5: _hex,
                6: ACCESS_CODES.__getitem__,
                7: flag_codes.__getitem__,
            },
        )


def _until_cut_off(stream: io.TextIOBase, notes: list[str]) -> Iterator[str]:
    """Yield lines; a gzip stream that ends early ends the lines with a warning."""
    try:
        yield from stream
    except EOFError:
        notes.append("the compressed file is cut off; plotting what could be read")


def _first_columns(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines with the columns of a drain alone; an export has more behind them.

    Those behind may be quoted, and a quoted text may hold line ends.
    """
    longer = False
    for line in lines:
        if not longer or line[0] == "#" or line == "\n":
            longer = longer or line.startswith(f"{HEADER},")
            yield f"{HEADER}\n" if line.startswith(f"{HEADER},") else line
            continue
        parts = line.split(",", len(COLUMNS))
        if len(parts) <= len(COLUMNS):
            # With eight fields it would pass for whole, where fields are counted.
            is_short = len(parts) == len(COLUMNS) and line[-1] == "\n"
            yield ",".join(parts[:-1]) + "\n" if is_short else line
            continue
        quotes = parts[-1].count('"')
        while quotes % 2 and (more := next(lines, None)) is not None:
            quotes += more.count('"')
        yield ",".join(parts[:-1]) + "\n"


def parse_losses(text: str) -> Losses | None:
    """Read `dropped=N overwritten=N missed=N`; None where it says anything else."""
    match = re.fullmatch(r"dropped=(\d+)\s+overwritten=(\d+)\s+missed=(\d+)", text.strip())
    return Losses(*map(int, match.groups())) if match else None


class _Reader:
    """Sorts the lines of a recording into header, comments and faults, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata: dict[str, str] = {}
        self.warnings: list[str] = []
        self.flag_codes = _Codes()
        self.header_seen = False
        self.lines_read = 0

    def read(self, lines: Sequence[str]) -> np.ndarray | None:
        """Take the next lines of the file; return their faults."""
        rows: list[str] = []
        numbers: list[int] = []
        for number, line in enumerate(lines, self.lines_read + 1):
            if line[0] == "#":
                key, colon, value = line[1:].partition(":")
                if colon:
                    self.metadata[key.strip()] = value.strip()
            elif line == "\n":
                continue
            elif self.header_seen:
                rows.append(line)
                numbers.append(number)
            elif line.rstrip("\n") == HEADER:
                self.header_seen = True
            else:
                raise PlotError(
                    f"{self.name}: line {number}: expected the header {HEADER}, found "
                    f"{shown(line.rstrip())}; give what 'fault-tracer drain -o FILE' or "
                    "'fault-tracer export -f csv' writes"
                )
        self.lines_read += len(lines)
        # Only the last line of a file can lack its newline: a recording that was
        # interrupted while it wrote. With all eight fields begun, no number is cut.
        if rows and rows[-1][-1] != "\n" and (damage := describe_damage(rows[-1])):
            self.warnings.append(
                f"line {numbers[-1]} is cut off ({damage}); plotting the lines before it"
            )
            rows.pop()
        return self._parse(rows, numbers) if rows else None

    def _parse(self, rows: list[str], numbers: list[int]) -> np.ndarray:
        try:
            table = _parse_lines(rows, self.flag_codes)
            if (table["time_ns"] < 0).any():
                raise ValueError("a negative time")
        except (ValueError, KeyError, OverflowError, DeprecationWarning) as error:
            for number, row in zip(numbers, rows, strict=False):
                if damage := describe_damage(row):
                    raise PlotError(
                        f"{self.name}: line {number} is damaged: {damage}; "
                        "correct or delete that line, or record again"
                    ) from error
            raise PlotError(f"{self.name}: lines {numbers[0]} to {numbers[-1]}: {error}") from error
        return table

    def losses(self) -> Losses | None:
        """Return what the loss line says, if there is one."""
        text = self.metadata.get("lost")
        losses = parse_losses(text) if text is not None else None
        if text is not None and losses is None:
            self.warnings.append(
                f"the loss line says {shown(text)}; expected dropped=N overwritten=N missed=N"
            )
        return losses


def load(stream: io.TextIOBase, name: str) -> Recording:
    """Read a recording from CSV text; `name` stands for it in messages."""
    reader = _Reader(name)
    kept = ["time_ns", "pid", "tid", "address", "access", "flags"]
    tables: list[np.ndarray] = []
    lines = _first_columns(_until_cut_off(stream, reader.warnings))
    while chunk := list(itertools.islice(lines, LINES_PER_CHUNK)):
        if (table := reader.read(chunk)) is not None:
            tables.append(repack_fields(table[kept]))
    if not reader.lines_read and not reader.warnings:
        raise PlotError(f"{name} is empty; expected CSV from 'fault-tracer drain -o FILE'")
    if not reader.header_seen:
        raise PlotError(f"{name}: no header line; expected {HEADER}")

    def column(key: str, dtype: str) -> np.ndarray:
        return np.concatenate([table[key] for table in tables] or [np.empty(0)]).astype(dtype)

    recording = Recording(
        time_ns=column("time_ns", "i8"),
        pid=column("pid", "u4"),
        tid=column("tid", "u4"),
        address=column("address", "u8"),
        access=column("access", "u1"),
        flags=column("flags", "u4"),
        flag_sets=[text.strip() for text in reader.flag_codes],
        name=name,
        metadata=reader.metadata,
        losses=reader.losses(),
        warnings=reader.warnings,
    )
    if np.any(np.diff(recording.time_ns) < 0):
        recording = recording.select(np.argsort(recording.time_ns, kind="stable"))
    return recording


TRACE_COLUMNS = np.dtype(
    [
        ("time_ns", "i8"),
        ("pid", "u4"),
        ("tid", "u4"),
        ("address", "u8"),
        ("access", "u1"),
        ("flags", "u4"),
    ]
)


def _trace_faults(batch: Any, flag_codes: _Codes, counts: dict[str, int]) -> np.ndarray:
    """Return the faults of a batch of a trace, and add up its counts of losses."""

    def numbers(array: Any) -> np.ndarray:
        return array.fill_null(0).to_numpy(zero_copy_only=False)

    def texts(name: str) -> np.ndarray:
        array = batch.column(name)
        known = np.array([*map(str, array.dictionary.to_pylist()), ""], dtype=object)
        return known[array.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    event, count = texts("event"), numbers(batch.column("count"))
    for name in ("dropped", "overwritten", "missed", "end"):
        mine = event == name
        counts[name] = counts.get(name, 0) + int(count[mine].sum())
        counts[f"rows {name}"] = counts.get(f"rows {name}", 0) + int(mine.sum())
    chosen = event == "fault"
    table = np.empty(int(chosen.sum()), dtype=TRACE_COLUMNS)
    for name in ("time_ns", "pid", "tid", "address"):
        table[name] = numbers(batch.column(name))[chosen]
    table["access"] = [ACCESS_NAMES.index(text) for text in texts("access")[chosen]]
    table["flags"] = [flag_codes[text] for text in texts("flags")[chosen]]
    return table


def _check_columns(schema: Any) -> None:
    """Refuse a stream without the columns that are read here, or with others of their names."""
    from pyarrow import types

    for names, kind, is_sound in (
        (("time_ns", "pid", "tid", "address", "count"), "whole numbers", types.is_integer),
        (
            ("event", "access", "flags"),
            "texts by dictionary",
            lambda of: types.is_dictionary(of) and types.is_string(of.value_type),
        ),
    ):
        for name in names:
            if not is_sound(schema.field(name).type):
                raise ValueError(f"its column {name} does not hold {kind}")


def load_trace(raw: BinaryIO, name: str) -> Recording:
    """Read the faults of a trace of `fault-tracer record`, an Arrow IPC stream."""
    try:
        import pyarrow as arrow
        import pyarrow.ipc
    except ImportError as missing:
        raise PlotError(
            f"{name} is a trace of 'fault-tracer record', which needs pyarrow to be read here "
            f"({missing}); give its CSV: fault-tracer export {name} -f csv -o faults.csv"
        ) from missing
    notes: list[str] = []
    flag_codes = _Codes()
    counts: dict[str, int] = {}
    tables = [np.empty(0, dtype=TRACE_COLUMNS)]
    try:
        stream = pyarrow.ipc.open_stream(raw)
        metadata = {k.decode(): v.decode() for k, v in (stream.schema.metadata or {}).items()}
        if "fault_tracer.format" not in metadata:
            raise PlotError(f"{name} is an Arrow stream, but no trace of 'fault-tracer record'")
        _check_columns(stream.schema)
        try:
            for batch in stream:
                # Who looks up what a damaged index or offset points to reads memory of others.
                batch.validate(full=True)
                tables.append(_trace_faults(batch, flag_codes, counts))
        except (arrow.ArrowException, OSError, ValueError) as error:
            notes.append(f"the trace is cut off or damaged ({error}); plotting what could be read")
    except (arrow.ArrowException, KeyError, ValueError) as error:
        raise PlotError(f"{name} is no sound trace: {error}; record again") from error
    table = np.concatenate(tables)
    losses = None
    if counts.get("rows end"):
        losses = Losses(counts["dropped"], counts["overwritten"], counts["missed"])
    recording = Recording(
        **{column: table[column] for column in TRACE_COLUMNS.names},
        flag_sets=list(flag_codes),
        name=name,
        metadata=metadata,
        losses=losses,
        warnings=notes,
    )
    return recording.select(np.argsort(recording.time_ns, kind="stable"))


def load_file(path: str) -> Recording:
    """Read a recording from a file or, as `-`, from standard input; gzip is recognised."""
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise PlotError("standard input is closed; name a file")
    try:
        with contextlib.ExitStack() as stack:
            # closefd: standard input is not this function's to close.
            descriptor = sys.stdin.fileno() if path == "-" else path
            raw: BinaryIO = stack.enter_context(open(descriptor, "rb", closefd=path != "-"))
            if raw.peek(2)[:2] == b"\x1f\x8b":
                raw = stack.enter_context(gzip.open(raw))
            if raw.peek(len(ARROW_START))[: len(ARROW_START)] == ARROW_START:
                return load_trace(raw, name)
            text = io.TextIOWrapper(raw, encoding="utf-8", errors="replace")
            return load(stack.enter_context(text), name)
    except FileNotFoundError:
        raise PlotError(
            f"{name} does not exist; record it with 'fault-tracer drain -o {name} -- CMD'"
        ) from None
    except EOFError:
        raise PlotError(f"{name} is cut off within its first line; copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise PlotError(f"{name} is not sound gzip: {error}; record or copy it again") from error
    except OSError as error:
        raise PlotError(f"cannot read {name}: {error.strerror or error}") from error


# ---------------------------------------------------------------- regions

# Where Linux puts things on x86-64 with four-level page tables, whatever the number
# of random bits (28 to 32): PIE executables from two thirds of the address space up
# to 16 TiB more, mmap from the main stack's reserve downwards by as much, the main
# stack and the vDSO in the 16 GiB at the top. Between those, nothing is certain.
LOW, BETWEEN, PIE, MMAP, STACK, KERNEL, EXEC = range(7)
KIND_STARTS = np.array(
    [4 * GIB, 0x5555_5555_4000, 0x6A00_0000_0000, 0x7FFC_0000_0000 - 8 * MIB, 1 << 47],
    dtype="u8",
)
KIND_NAMES = {
    LOW: "low, non-PIE",
    BETWEEN: "",
    PIE: "PIE executable, heap",
    MMAP: "mmap, libraries",
    STACK: "main stack, vDSO",
    KERNEL: "kernel half",
    EXEC: "arguments of exec",
}
KIND_PLURALS = KIND_NAMES | {
    LOW: "non-PIE executables, heaps",
    BETWEEN: "other addresses",
    PIE: "PIE executables, heaps",
    MMAP: "mmap, libraries",
    STACK: "main stacks, vDSO",
}
# Without randomisation mmap begins 128 MiB below the top, inside the stacks' range.
FIXED_MMAP_START, FIXED_MMAP_END = 0x7FFF_F000_0000, 0x7FFF_F800_0000
# exec builds the new program's arguments from this page downwards, from the kernel,
# and moves them to where the stack is to be afterwards.
EXEC_PAGE = (1 << 47) - 2 * PAGE
EXEC_SIZE = 2 * MIB


def kinds_of(recording: Recording) -> np.ndarray:
    """Tell each fault's part of the address space (LOW … EXEC) by its address."""
    address, pid = recording.address, recording.pid
    kinds = np.searchsorted(KIND_STARTS, address, side="right").astype("u1")
    from_kernel = recording.has_flag("gup") | recording.has_flag("remote")
    top = (address >= EXEC_PAGE + PAGE - EXEC_SIZE) & (kinds == STACK)
    kinds[top & from_kernel] = EXEC
    unsure = (address >= FIXED_MMAP_START) & (address < FIXED_MMAP_END)
    if unsure.any():
        # The main stack is the highest: a process with faults above has mmap here.
        above = np.unique(pid[(address >= FIXED_MMAP_END) & (kinds == STACK)])
        kinds[unsure & np.isin(pid, above)] = MMAP
    return kinds


def count_layouts(address: np.ndarray, kinds: np.ndarray) -> int:
    """Count the address space layouts by their main stacks; forks share their parent's."""
    stacks = np.sort(address[kinds == STACK])
    return 1 + int(np.count_nonzero(np.diff(stacks) > 8 * MIB)) if len(stacks) else 0


@dataclass(frozen=True)
class Band:
    """One region [start, end) and the part [low, high] of the unit axis it is given."""

    start: int
    end: int
    faults: int
    pages: int
    name: str = ""
    low: float = 0.0
    high: float = 0.0
    # Aligned bands show offsets from an edge of each process's own region instead of
    # addresses: the position of that edge.
    origin: int | None = None

    @property
    def size(self) -> int:
        """Bytes from the first to the end of the last page faulted."""
        return self.end - self.start


def find_regions(
    address: np.ndarray, kinds: np.ndarray | None = None, limit: int = MAX_BANDS
) -> list[Band]:
    """Split the faulted addresses at their biggest holes into at most `limit` regions.

    Between two kinds of address (a stack and a library) any hole may be cut.
    """
    if not len(address):
        return []
    pages, first, counts = np.unique(
        address // np.uint64(PAGE), return_index=True, return_counts=True
    )
    page_kinds = np.zeros(len(pages), "u1") if kinds is None else kinds[first]
    holes = np.diff(pages).astype("i8") - 1
    # What decides the order of cutting: a change of kind first, then the size.
    rank = holes.astype("f8")
    rank[(np.diff(page_kinds.astype("i2")) != 0) & (holes > 0)] += 2.0**52

    queue: list[tuple[float, int, int, int]] = []  # (-rank, cut after, first, last)

    def consider(low: int, high: int) -> None:
        if low == high:
            return
        cut = low + int(np.argmax(rank[low:high]))
        span = int(pages[high] - pages[low]) + 1
        changes_kind = page_kinds[cut] != page_kinds[cut + 1] and holes[cut] > 0
        big = int(holes[cut]) * PAGE >= MIN_HOLE and holes[cut] >= MIN_HOLE_PART * span
        if changes_kind or big:
            heapq.heappush(queue, (-rank[cut], cut, low, high))

    cuts: list[int] = []
    consider(0, len(pages) - 1)
    while queue and len(cuts) + 1 < limit:
        _, cut, low, high = heapq.heappop(queue)
        cuts.append(cut)
        consider(low, cut)
        consider(cut + 1, high)

    bands = []
    edges = [-1, *sorted(cuts), len(pages) - 1]
    for before, last in itertools.pairwise(edges):
        inside = slice(before + 1, last + 1)
        inner = set(np.unique(page_kinds[inside]).tolist())
        # Without randomisation exec's arguments stay where they are: on the stack.
        if inner == {STACK, EXEC}:
            inner = {STACK}
        bands.append(
            Band(
                start=int(pages[before + 1]) * PAGE,
                end=(int(pages[last]) + 1) * PAGE,
                faults=int(counts[inside].sum()),
                pages=last - before,
                name=KIND_NAMES[inner.pop()] if kinds is not None and len(inner) == 1 else "",
            )
        )
    return bands


def align(recording: Recording, kinds: np.ndarray) -> tuple[np.ndarray, list[Band]]:
    """Give every fault a place on an axis that all processes share.

    A process, from one exec to the next, is put with the lowest page it faulted in
    each kind on offset 0; mmap and stack, which grow down, with their highest. Holes
    inside it shrink to a fixed size. Returns the places, and a band for each kind.
    """
    # An exec is seen in the recording itself, by its arguments' first page.
    is_exec = (kinds == EXEC) & (recording.address >= EXEC_PAGE)
    order = np.argsort(recording.pid, kind="stable")
    life = np.empty(len(recording), "i8")
    life[order] = np.cumsum(is_exec[order])

    order = np.lexsort((recording.address, kinds, life, recording.pid))
    pid, kind, alive = recording.pid[order], kinds[order], life[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(pid) != 0) | (np.diff(kind) != 0) | (np.diff(alive) != 0)
    step = np.zeros(len(order), "u8")
    step[1:] = np.diff(recording.address[order])
    step[new] = 0
    step[step > ALIGN_HOLE] = ALIGN_SHRUNK
    position = np.cumsum(step.astype("i8"))
    starts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    ends = np.append(starts[1:], len(order)) - 1
    from_bottom = position - position[starts][group]
    from_top = position - position[ends][group]

    place = np.empty(len(order), "i8")
    bands = []
    base = 0
    for code in range(LOW, EXEC + 1):
        mine = kind == code
        if not mine.any():
            continue
        downwards = code in (MMAP, STACK, EXEC)
        offset = (from_top if downwards else from_bottom)[mine]
        start = int(offset.min()) // PAGE * PAGE
        end = (int(offset.max()) // PAGE + 1) * PAGE
        origin = base - start
        place[mine] = offset + origin
        bands.append(
            Band(
                start=base,
                end=base + end - start,
                faults=int(mine.sum()),
                pages=len(np.unique(offset // PAGE)),
                name=KIND_PLURALS[code],
                origin=origin + PAGE if downwards else origin,
            )
        )
        # Any hole does: the axis gives each of them the same small height.
        base += end - start + TIB
    unsorted = np.empty_like(place)
    unsorted[order] = place
    return unsorted.astype("u8"), bands


def place_bands(bands: Sequence[Band], hole: float, least: float) -> list[Band]:
    """Share out the unit axis: `hole` between bands, at least `least` for each.

    The rest goes by the square root of the pages touched, so that a heap of 1 GiB
    is seen to be big and a stack of three pages is still seen.
    """
    hole = min(hole, 0.4 / len(bands))
    room = 1.0 - hole * (len(bands) - 1)
    least = min(least, 0.8 * room / len(bands))
    weight = np.sqrt([band.pages for band in bands])
    heights = least + (room - least * len(bands)) * weight / weight.sum()
    lows = np.concatenate([[0.0], np.cumsum(heights + hole)[:-1]])
    highs = lows + heights
    highs[-1] = 1.0
    return [
        replace(band, low=float(low), high=float(high))
        for band, low, high in zip(bands, lows, highs, strict=True)
    ]


@dataclass(frozen=True)
class AddressAxis:
    """The piecewise linear map from addresses to the unit axis, and back."""

    bands: list[Band]

    @property
    def knots(self) -> tuple[np.ndarray, np.ndarray]:
        """Addresses and their places, both strictly increasing."""
        sources = [edge for band in self.bands for edge in (band.start, band.end)]
        places = [edge for band in self.bands for edge in (band.low, band.high)]
        return np.array(sources, dtype="f8"), np.array(places, dtype="f8")

    def forward(self, address: np.ndarray) -> np.ndarray:
        """Map addresses to places."""
        return np.interp(address, *self.knots)

    def inverse(self, place: np.ndarray) -> np.ndarray:
        """Map places to addresses."""
        return np.interp(place, *reversed(self.knots))


# ---------------------------------------------------------------- text


def size_text(size: int) -> str:
    """Write a number of bytes as people do: 132 KiB, 1.2 MiB, 42 TiB."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size) >= unit:
            value = size / unit
            return f"{value:.0f} {name}" if abs(value) >= 10 else f"{value:.2g} {name}"
    return f"{size} B"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: 1 process, 1,234 processes."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration_text(ns: int) -> str:
    """Write a duration with three significant digits."""
    for unit, name in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")):
        if ns >= unit:
            value = ns / unit
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {name}"
    return f"{ns} ns"


def loss_text(losses: Losses | None) -> tuple[str, str]:
    """Say how much of the truth the picture lacks, and the colour to say it in."""
    if losses is None:
        return "losses unknown (the file has no loss line)", WARN
    if losses.total == 0:
        return "no faults lost", GOOD
    parts = ", ".join(
        f"{getattr(losses, part):,} {part}"
        for part in ("dropped", "overwritten", "missed")
        if getattr(losses, part)
    )
    return f"{counted(losses.total, 'FAULT', 'FAULTS')} LOST: {parts}", BAD


def summary_text(recording: Recording) -> str:
    """Say what was recorded, in one line."""
    pids = np.unique(recording.pid)
    parts = [
        counted(len(recording), "fault"),
        f"process {pids[0]}" if len(pids) == 1 else f"{len(pids):,} processes",
        counted(len(np.unique(recording.tid)), "thread"),
        duration_text(int(recording.time_ns[-1] - recording.time_ns[0])),
    ]
    if kernel := recording.metadata.get("kernel"):
        parts.append(f"kernel {printable(kernel[:TEXT_SHOWN])}")
    return "  ·  ".join(parts)


def flags_text(recording: Recording) -> str:
    """Count the flags, most frequent first; empty where there are none."""
    totals: dict[str, int] = {}
    counts = np.bincount(recording.flags, minlength=len(recording.flag_sets))
    for names, count in zip(recording.flag_sets, counts, strict=True):
        for name in filter(None, names.split("|")):
            totals[name] = totals.get(name, 0) + int(count)
    busiest = sorted(((n, f) for f, n in totals.items() if n), reverse=True)[:8]
    return "  ·  ".join(f"{printable(name[:TEXT_SHOWN])} {count:,}" for count, name in busiest)


def title_text(recording: Recording) -> str:
    """Name the picture after the command traced, or else the file."""
    return recording.metadata.get("command") or Path(recording.name).name


def legend_texts(recording: Recording) -> list[str]:
    """Name each access with its count."""
    counts = np.bincount(recording.access, minlength=len(ACCESS_NAMES))
    return [f"{name}  {count:,}" for name, count in zip(ACCESS_NAMES, counts, strict=True)]


# ---------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Panel:
    """What one scatter plot shows: some faults, their places, and the bands."""

    recording: Recording
    place: np.ndarray
    bands: list[Band]
    caption: str = ""


def make_panel(recording: Recording, aligned: bool | None, limit: int, caption: str = "") -> Panel:
    """Choose how the addresses of a recording are shown.

    With `aligned` None they are aligned only where the processes have too many layouts
    to give each its own bands: one has at least three (executable, mappings, stack).
    """
    kinds = kinds_of(recording)
    if aligned is None:
        aligned = count_layouts(recording.address, kinds) > limit // 3
    if aligned:
        place, bands = align(recording, kinds)
        return Panel(recording, place, bands, caption)
    bands = find_regions(recording.address, kinds, limit)
    return Panel(recording, recording.address, bands, caption)


def marker_style(count: int) -> tuple[float, float]:
    """Choose the area (square points) and opacity of a marker for so many of them."""
    decade = np.log10(max(count, 1))
    area = np.interp(decade, [2, 3, 4, 5, 6], [42, 20, 8, 2.6, 1.0])
    alpha = np.interp(decade, [2, 3, 4, 5, 6], [0.9, 0.8, 0.65, 0.5, 0.4])
    return float(area), float(alpha)


def thin_out(
    x: np.ndarray, y: np.ndarray, access: np.ndarray, columns: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one fault for each spot of a grid and access; return indices and counts.

    Faults on one spot cover each other anyway; drawing each costs minutes by the million.
    """
    spot_x = np.clip((x * columns).astype("i8"), 0, columns - 1)
    spot_y = np.clip((y * rows).astype("i8"), 0, rows - 1)
    key = (access.astype("i8") * rows + spot_y) * columns + spot_x
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    # In order of time, so that no access covers the others throughout.
    order = np.argsort(first)
    return first[order], counts[order]


def draw_points(ax: Axes, x: np.ndarray, panel: Panel, span: float) -> None:
    """Draw the faults."""
    access = panel.recording.access
    chosen, counts = np.arange(len(x)), np.ones(len(x), "i8")
    if len(x) > DRAW_EACH:
        box = ax.get_window_extent()
        unit = AddressAxis(panel.bands).forward(panel.place)
        chosen, counts = thin_out(
            x / span, unit, access, int(box.width * 2), max(int(box.height * 2), 2)
        )
    area, alpha = marker_style(len(chosen))
    colours = np.array([matplotlib.colors.to_rgba(c) for c in ACCESS_COLOURS])[access[chosen]]
    colours[:, 3] = np.minimum(alpha * (1 + 0.5 * np.log10(counts)), 1.0)
    ax.scatter(
        x[chosen],
        panel.place[chosen].astype("f8"),
        s=area,
        c=colours,
        linewidths=0,
        marker="o" if area > 3 else "s",
        rasterized=True,
        zorder=3,
        clip_on=False,
    )


def nice_step(size: int, ticks: float) -> int:
    """Choose a power of two that divides `size` into about `ticks` parts."""
    return 1 << max(int(np.ceil(np.log2(max(size / max(ticks, 1), PAGE)))), 12)


def band_ticks(band: Band, pixels: float) -> list[int]:
    """Choose addresses to label inside a band of so many pixels of height."""
    wanted = pixels // 70
    if band.origin is not None:
        if band.size <= PAGE:
            return [band.origin]
        step = nice_step(band.size, max(wanted, 1))
        low = -(-(band.start - band.origin) // step) * step + band.origin
        return list(range(low, band.end + 1, step)) or [band.start]
    ticks = [band.start]
    if wanted >= 2:
        step = nice_step(band.size, wanted)
        # None so near the start that their labels would touch.
        clear = band.size / pixels
        low, high = band.start + 18 * clear, band.end - 6 * clear
        first = -(-band.start // step) * step
        ticks += [tick for tick in range(first, band.end, step) if low < tick < high]
    return ticks


def tick_text(tick: int, bands: Sequence[Band]) -> str:
    """Write an address in hex, or an offset where the bands are aligned."""
    band = next((b for b in bands if b.start <= tick <= b.end), bands[0])
    if band.origin is None:
        return f"0x{tick:x}"
    offset = tick - band.origin
    return f"{'+' if offset >= 0 else '−'}{size_text(abs(offset))}" if offset else "0"


def region_text(band: Band) -> str:
    """Describe a region beside its band."""
    detail = f"{size_text(band.size)}, {counted(band.faults, 'fault')}"
    return f"{band.name}\n{detail}" if band.name else detail


def panel_pixels(ax: Axes) -> float:
    """Return the height of a plot in pixels at 100 dpi, whatever the picture's dpi."""
    return ax.get_position().height * ax.get_figure().get_figheight() * 100


def draw_bands(ax: Axes, panel: Panel, font: float) -> None:
    """Draw the address axis: bands, the holes between them, ticks and descriptions."""
    bands = panel.bands
    axis = AddressAxis(bands)
    ax.set_yscale("function", functions=(axis.forward, axis.inverse))
    ax.set_ylim(float(bands[0].start), float(bands[-1].end))
    height = panel_pixels(ax)
    pad = BAND_PAD / height
    ticks: list[int] = []
    for band in bands:
        ax.add_patch(
            Rectangle(
                (0, band.low - pad),
                1,
                band.high - band.low + 2 * pad,
                transform=ax.transAxes,
                color=PAPER,
                linewidth=0,
                zorder=0,
                clip_on=False,
            )
        )
        pixels = (band.high - band.low) * height
        ticks += band_ticks(band, pixels)
        ax.annotate(
            region_text(band),
            (1, (band.low + band.high) / 2),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=font,
            color=INK,
            linespacing=1.25,
        )
    for below, above in itertools.pairwise(bands):
        for place in (below.high + pad, above.low - pad):
            ax.plot(
                [0, 1],
                [place, place],
                transform=ax.transAxes,
                color=FAINT,
                linewidth=0.8,
                zorder=1,
            )
            # The usual sign of a broken axis, on both sides.
            ax.plot(
                [0, 1],
                [place, place],
                transform=ax.transAxes,
                linestyle="none",
                marker=[(-1, -0.6), (1, 0.6)],
                markersize=9,
                color=MUTED,
                markeredgewidth=1,
                clip_on=False,
                zorder=5,
            )
        if below.origin is None:
            ax.text(
                0.5,
                (below.high + above.low) / 2,
                f"⋯  {size_text(above.start - below.end)} without a fault  ⋯",
                transform=ax.transAxes,
                ha="center",
                va="center",
                fontsize=font - 2,
                color=MUTED,
                zorder=2,
            )
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: tick_text(int(tick), bands)))
    mono = "monospace" if bands[0].origin is None else "sans-serif"
    for label in ax.get_yticklabels():
        label.set(fontfamily=mono, fontsize=font - 0.5, color=INK)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_position(("outward", BAND_PAD * 0.72))
    ax.tick_params(axis="y", length=4, color=MUTED)


def time_unit(duration_ns: int) -> tuple[int, str]:
    """Choose the unit of the time axis: seconds unless the recording is short."""
    if duration_ns >= 10**9:
        return 10**9, "s"
    return (10**6, "ms") if duration_ns >= 10**6 else (10**3, "µs")


def wall_step(span_ns: int, most: int) -> int:
    """Choose nanoseconds between at most so many ticks, as a clock is read."""
    minute = 60 * 10**9
    steps = [factor * 10**power for power in range(10) for factor in (1, 2, 5)]
    steps = [step for step in steps if step <= 10**9]
    steps += [s * 10**9 for s in (2, 5, 10, 15, 30)]
    steps += [m * minute for m in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)]
    day = 1440 * minute
    fitting = (step for step in steps if span_ns // step < most)
    return next(fitting, max(-(-span_ns // (most * day)), 1) * day)


def wall_text(wall_ns: int, step_ns: int) -> str:
    """Write a time of day in UTC, as exactly as the ticks are apart."""
    seconds, ns = divmod(wall_ns, 10**9)
    text = f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%H:%M:%S}"
    digits = next((d for d in range(9) if step_ns % 10 ** (9 - d) == 0), 9)
    return f"{text}.{ns:09d}"[: len(text) + 1 + digits] if digits else text


def draw_wall_clock(ax: Axes, start_ns: int, duration_ns: int, unit: int) -> None:
    """Draw a second axis of time above a plot: the wall clock's."""
    width = ax.get_position().width * ax.get_figure().get_figwidth() * 100
    step = wall_step(max(duration_ns, 1), max(int(width // 150), 2))
    first = -(-start_ns // step) * step
    ticks = range(first, start_ns + duration_ns + 1, step)
    above = ax.secondary_xaxis("top")
    above.set_xticks(
        [(tick - start_ns) / unit for tick in ticks], [wall_text(tick, step) for tick in ticks]
    )
    above.tick_params(length=4, labelsize=8.5, colors=MUTED)
    above.spines["top"].set_color(MUTED)
    date = datetime.datetime.fromtimestamp(start_ns // 10**9, datetime.timezone.utc)
    ax.annotate(
        f"{date:%Y-%m-%d} UTC",
        (0, 1),
        xycoords="axes fraction",
        xytext=(-10, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=MUTED,
    )


def draw_rate(ax: Axes, x: np.ndarray, access: np.ndarray, span: float, unit: int) -> None:
    """Draw faults per second over time, stacked by access."""
    finest = ax.get_position().width * ax.get_figure().get_figwidth() * 100 // 6
    edges = np.linspace(0, span, int(np.clip(len(x) // 3, 20, finest)) + 1)
    seconds = (edges[1] - edges[0]) * unit / 1e9
    base = np.zeros(len(edges) - 1)
    for code, colour in enumerate(ACCESS_COLOURS):
        rate = base + np.histogram(x[access == code], edges)[0] / seconds
        ax.stairs(rate, edges, baseline=base, fill=True, color=colour, linewidth=0)
        base = rate
    ax.set_ylim(0, base.max() * 1.05)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_ylabel("faults/s", fontsize=9, color=MUTED)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.tick_params(labelbottom=False, labelsize=8.5, colors=MUTED)
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.set_axisbelow(True)


def draw(
    recording: Recording, panels: Sequence[Panel], title: str, size: tuple[int, int], dpi: int
) -> Figure:
    """Draw the whole picture; `size` is in pixels at 100 dots per inch."""
    width, height = size
    figure = Figure(figsize=(width / 100, height / 100), dpi=dpi, facecolor="white")
    captions = any(panel.caption for panel in panels)
    grid = figure.add_gridspec(
        1 + len(panels),
        1,
        height_ratios=[0.13 * len(panels), *[1] * len(panels)],
        left=150 / width,
        right=1 - 200 / width,
        top=1 - 96 / height,
        bottom=86 / height,
        hspace=0.28 * (len(panels) / 3) if captions else 0.05,
    )
    duration = int(recording.time_ns[-1] - recording.time_ns[0])
    unit, unit_name = time_unit(duration)
    span = max(duration, 1) / unit
    start = recording.time_ns[0]

    rate = figure.add_subplot(grid[0])
    draw_rate(rate, (recording.time_ns - start) / unit, recording.access, span, unit)
    font = 9.0 if len(panels) == 1 else 8.5
    for row, panel in enumerate(panels, 1):
        ax = figure.add_subplot(grid[row], sharex=rate)
        pixels = panel_pixels(ax)
        hole, least = HOLE_PIXELS + 2 * BAND_PAD, font * 3.6 - BAND_PAD
        bands = place_bands(panel.bands, hole / pixels, least / pixels)
        panel = replace(panel, bands=bands)
        draw_bands(ax, panel, font)
        draw_points(ax, (panel.recording.time_ns - start) / unit, panel, span)
        if panel.caption:
            ax.set_title(panel.caption, loc="left", fontsize=10, color=INK, pad=9)
        ax.grid(axis="x", color="white", linewidth=1.0)
        ax.set_axisbelow(True)
        ax.spines["bottom"].set_color(MUTED)
        last = row == len(panels)
        ax.tick_params(axis="x", labelbottom=last, labelsize=9.5, color=MUTED, labelcolor=INK)
    margin = 0.008 * span
    rate.set_xlim(-margin, span + margin)
    if (wall := recording.wall_start_ns()) is not None:
        draw_wall_clock(rate, wall, duration, unit)
    ax.set_xlabel(f"time since the first fault ({unit_name})", fontsize=10, color=INK)

    draw_header(figure, recording, title, width, height)
    footer = []
    if flags := flags_text(recording):
        footer.append(f"flags:  {flags}")
    if any(panel.bands[0].origin is not None for panel in panels):
        footer.append(
            "offsets from each process's lowest fault in the region "
            "(mmap and stack: highest); holes inside a process shrunk"
        )
    figure.text(
        24 / width,
        14 / height,
        "     |     ".join(footer),
        fontsize=8.5,
        color=MUTED,
        va="bottom",
        parse_math=False,
    )
    return figure


def draw_header(figure: Figure, recording: Recording, title: str, width: int, height: int) -> None:
    """Draw title, summary, losses and legend above the plots."""
    # About 9.5 pixels a character in the title's type, less the legend's room.
    room = max(int((width - 520) / 9.5), 20)
    # The command comes from the file, and what is between dollar signs in it is no formula.
    title = printable(title)
    title = title if len(title) <= room else title[: room - 1] + "…"
    figure.text(
        24 / width,
        1 - 18 / height,
        title,
        fontsize=15,
        fontweight="bold",
        color=INK,
        va="top",
        parse_math=False,
    )
    figure.text(
        24 / width,
        1 - 50 / height,
        summary_text(recording),
        fontsize=10.5,
        color=MUTED,
        va="top",
        parse_math=False,
    )
    text, colour = loss_text(recording.losses)
    lost = colour == BAD
    figure.text(
        1 - 24 / width,
        1 - 46 / height,
        text,
        fontsize=14 if lost else 11,
        fontweight="bold",
        color="white" if lost else colour,
        bbox={"facecolor": BAD, "edgecolor": "none", "boxstyle": "round,pad=0.3"} if lost else None,
        ha="right",
        va="top",
    )
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=8, color=colour)
        for colour in ACCESS_COLOURS
    ]
    figure.legend(
        handles,
        legend_texts(recording),
        loc="upper right",
        bbox_to_anchor=(1 - 16 / width, 1 - 10 / height),
        ncol=3,
        frameon=False,
        fontsize=11,
        handletextpad=0.1,
        columnspacing=1.4,
        borderpad=0,
    )


# ---------------------------------------------------------------- command


def write(figure: Figure, output: Path, dpi: int) -> None:
    """Write the picture beside its place and move it there only when it is whole."""
    kind = output.suffix[1:].lower()
    # No date in the file: the same recording gives the same picture.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    output = output.resolve()
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with matplotlib.rc_context({"svg.hashsalt": "fault-tracer"}), open(beside, "xb") as file:
            # In SVG and PDF only the points have a resolution.
            figure.savefig(
                file, format=kind, dpi=dpi if kind == "png" else 2 * dpi, metadata=metadata
            )
        os.replace(beside, output)
    except OSError as error:
        raise PlotError(
            f"cannot write {output}: {error.strerror or error}; name another place with -o"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def output_path(file: str, output: str | None) -> Path:
    """Decide where the picture goes, and refuse early what cannot work."""
    if output is None:
        if file == "-":
            raise PlotError("reading standard input: name the picture with -o FILE.png")
        path = Path(file)
        path = path.with_suffix("") if path.suffix == ".gz" else path
        path = path.with_suffix(".png")
    else:
        path = Path(output)
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(
            f"{path}: cannot tell the kind of picture; end its name with .png, .svg or .pdf"
        )
    if path.is_dir():
        raise PlotError(f"{path} is a directory; name a file in it with -o")
    if file != "-" and path.exists() and Path(file).exists() and path.samefile(file):
        raise PlotError(f"{path} is the recording itself; name another place with -o")
    if not path.parent.is_dir():
        raise PlotError(f"the directory {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PlotError(f"no right to write in {path.parent}; name another place with -o")
    return path


def busiest(recording: Recording, count: int) -> list[tuple[int, int]]:
    """List the processes with the most faults, as (pid, faults)."""
    pids, counts = np.unique(recording.pid, return_counts=True)
    order = np.argsort(-counts.astype("i8"), kind="stable")[:count]
    return [(int(pids[i]), int(counts[i])) for i in order]


def choose_faults(recording: Recording, pids: Iterable[int] | None) -> Recording:
    """Keep the wanted processes' faults; with none to show, say what to check."""
    if not len(recording):
        lost = recording.losses.total if recording.losses else 0
        why = (
            f"all {counted(lost, 'fault')} were lost: record with a larger --ring-kib"
            if lost
            else "check that the process ran and faulted while it was traced, and its pid"
        )
        raise PlotError(f"{recording.name} holds no faults; {why}")
    if not pids:
        return recording
    chosen = recording.select(np.isin(recording.pid, np.array(sorted(pids), "u4")))
    if not len(chosen):
        there = ", ".join(str(pid) for pid, _ in busiest(recording, 5))
        wanted = ", ".join(map(str, pids))
        raise PlotError(f"{recording.name} holds no faults of process {wanted}; it has {there}")
    return chosen


def make_panels(recording: Recording, top: int | None, aligned: bool | None) -> list[Panel]:
    """Make one panel of everything, or one for each of the `top` busiest processes."""
    if top is None:
        return [make_panel(recording, aligned, MAX_BANDS)]
    panels = []
    for pid, count in busiest(recording, top):
        share = f"{100 * count / len(recording):.0f} %"
        panels.append(
            make_panel(
                recording.select(recording.pid == pid),
                aligned,
                max(MAX_BANDS // top, 3),
                f"process {pid}  ·  {counted(count, 'fault')}, {share} of all",
            )
        )
    return panels


def _pixels(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{3,5})x(\d{3,5})", text)
    if not match or int(match[1]) < 800 or int(match[2]) < 500:
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT, at least 800x500")
    return int(match[1]), int(match[2])


def _between(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = _decimal(text) if text.isascii() and text.isdigit() else -1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number from {low} to {high}")
        return value

    return convert


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = _Parser(
        prog="plot_faults.py",
        description="Draw a recording of page faults: time on x, address on y, colour by access.",
        epilog=textwrap.dedent(
            """\
            The input is CSV as 'fault-tracer drain' or 'fault-tracer export -f csv' writes it,
            plain or gzip'd; where pyarrow is installed, also the trace of 'fault-tracer record'
            itself. The axis of addresses shows only the regions that faulted; the holes between
            them are cut out. The axis of time above is the wall clock's, in UTC.

            examples:
              plot_faults.py faults.csv                   draws faults.png
              plot_faults.py faults.csv -o faults.svg     points as an image, text as vectors
              plot_faults.py build.csv.gz --top 4         a plot for each of the 4 busiest
              fault-tracer drain -p 1234 | plot_faults.py - -o process.png
            """
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the recording; - reads standard input")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="where to write, as .png, .svg or .pdf (default: FILE with .png)",
    )
    parser.add_argument(
        "--pid",
        type=_between(0, 2**31 - 1),
        action="append",
        metavar="N",
        help="show only process N; may be repeated",
    )
    parser.add_argument(
        "--top",
        type=_between(1, 6),
        metavar="N",
        help="a plot for each of the N processes (1 to 6) with the most faults",
    )
    parser.add_argument(
        "--align",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="put the processes' address spaces over each other, region by region, instead "
        "of showing true addresses (default: where many processes differ in layout)",
    )
    parser.add_argument("--title", help="the title (default: the command traced, or FILE)")
    parser.add_argument(
        "--size",
        type=_pixels,
        default=(1600, 1000),
        metavar="WxH",
        help="the size in pixels at 100 dpi (default: 1600x1000)",
    )
    parser.add_argument(
        "--dpi",
        type=_between(50, 600),
        default=100,
        metavar="N",
        help="the resolution; 200 is twice as sharp at the same layout (default: 100)",
    )
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Load, choose, draw and write."""
    output = output_path(arguments.file, arguments.output)
    recording = load_file(arguments.file)
    for warning in recording.warnings:
        print(f"plot_faults.py: warning: {recording.name}: {warning}", file=sys.stderr)
    recording = choose_faults(recording, arguments.pid)
    panels = make_panels(recording, arguments.top, arguments.align)
    title = arguments.title or title_text(recording)
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box, which says as much.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        write(draw(recording, panels, title, arguments.size, arguments.dpi), output, arguments.dpi)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        run(arguments)
    except PlotError as error:
        print(f"plot_faults.py: error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print(
            "plot_faults.py: error: not enough memory for this recording; plot a part of it",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
