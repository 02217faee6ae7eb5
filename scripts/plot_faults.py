#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Draw page faults with matplotlib: time to the right, addresses upwards, colour by access.

Panels come with the file (`fault-tracer export --bands`), or are clusters of addresses.
"""

import argparse
import csv
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import IO, Any, Iterator

try:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter, MaxNLocator
except ImportError as missing:
    sys.exit(f"plot_faults.py: error: {missing}; apt-get install python3-matplotlib")

# Okabe and Ito's, which are told apart with every common colour vision deficiency.
COLOURS = {"read": "#0072B2", "write": "#D55E00", "execute": "#009E73"}
ACCESSES = {"r": "read", "w": "write", "x": "execute"}
COLUMNS = ("time_ns", "pid", "address", "access")
BANDS = ("panel", "panel_offset", "panel_label")
PANELS_MOST, HOLE_LEAST = 24, 1 << 24
warnings.filterwarnings("ignore", "Glyph")


def warn(text: str) -> None:
    """Say what is not as it should be."""
    print("plot_faults.py: warning:", text, file=sys.stderr)


def arranged(table: dict[str, Any]) -> tuple[np.ndarray, dict[int, str]]:
    """Make an array of the faults, in the order of time, and name the panels."""
    address = np.asarray(table["address"], "u8")
    if "panel" in table:
        panel, offset = np.asarray(table["panel"], "i8"), np.asarray(table["panel_offset"], "u8")
        labels = dict(zip(table["panel"], table["panel_label"], strict=True))
    else:
        pages = np.unique(address >> np.uint64(12))  # Of 4 KiB: all other sizes are multiples.
        holes = np.diff(pages)
        wide = np.argsort(holes, kind="stable")[::-1][: PANELS_MOST // 2]
        starts = np.sort([*pages[:1], *pages[1:][wide[holes[wide] >= HOLE_LEAST >> 12]]])
        starts = starts.astype("u8") << np.uint64(12)
        at = np.searchsorted(starts, address, "right") - 1
        panel, offset = len(starts) - 1 - at, address - starts[at] if len(at) else address
        labels = {len(starts) - 1 - n: f"{int(start):#x}" for n, start in enumerate(starts)}
    types = {"time_ns": "i8", "pid": "i8", "access": "U7"}
    ours = [np.asarray(table[column], kind) for column, kind in types.items()]
    faults = np.rec.fromarrays([*ours, panel, offset], names="time,pid,access,panel,offset")
    return faults[np.argsort(faults.time, kind="stable")], labels


def csv_lines(lines: IO[str], notes: dict[str, str]) -> Iterator[str]:
    """Yield lines that are no comments; quoted texts may have lines of their own."""
    quoted = False
    try:
        for number, line in enumerate(lines, 1):
            notes |= {"at": f"line {number}", "cut off": "" if line.endswith("\n") else "yes"}
            if not quoted and line.startswith("#"):
                key, _, value = line[1:].partition(":")
                notes[key.strip()] = value.strip()
            elif quoted or line.strip():
                quoted ^= line.count('"') % 2 == 1
                yield line
    except EOFError:
        warn("the compressed file is cut off; plotting what could be read")


def read_csv(lines: IO[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read what `drain` or `export -f csv` has written."""
    notes: dict[str, str] = {}
    rows = csv.DictReader(csv_lines(lines, notes))
    header = rows.fieldnames or ()
    if not set(COLUMNS) <= set(header):
        raise ValueError("no header; give what 'fault-tracer drain' or 'export' has written")
    wanted = COLUMNS + (BANDS if "panel" in header else ())
    table: dict[str, list[Any]] = {column: [] for column in wanted}
    for row in rows:
        # Attempts are no faults of their own, and have no panel.
        if row.get("event", "fault") != "fault" or row.get("fate") == "retried":
            continue
        try:
            if None in row or None in row.values():
                raise ValueError(f"expected {len(header)} fields")
            values = [int(row["time_ns"]), int(row["pid"]), int(row["address"], 16)]
            values.append(ACCESSES[row["access"]])
            if "panel" in row:
                values += [int(row["panel"]), int(row["panel_offset"]), row["panel_label"]]
        except (KeyError, ValueError) as error:
            if notes["cut off"]:
                warn(f"the last line is cut off ({error}); plotting those before it")
                break
            raise ValueError(f"{notes['at']} is damaged: {error}; correct it") from error
        for column, value in zip(wanted, values, strict=True):
            table[column].append(value)
    return table, notes


def read_parquet(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Read what `export -f parquet` has written."""
    from pyarrow import parquet

    rows = parquet.read_table(io.BytesIO(data))
    for column, kept in (("event", {"fault"}), ("fate", {"minor", "major", "failed", "unknown"})):
        if column in rows.column_names:
            rows = rows.filter([text in kept for text in rows[column].to_pylist()])
    bands = BANDS if "panel" in rows.column_names else ()
    table = {column: rows[column].to_pylist() for column in COLUMNS + bands}
    table["address"] = [address % (1 << 64) for address in table["address"]]
    return table, {k.decode(): v.decode() for k, v in (rows.schema.metadata or {}).items()}


def read_trace(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Have the tool lay a trace out."""
    built = Path(__file__).resolve().parent.parent / "build/bin/fault-tracer"
    tool = os.environ.get("FAULT_TRACER") or (built if built.exists() else "fault-tracer")
    if shutil.which(tool) is None:
        raise ValueError("this is a trace, which needs fault-tracer; make tools builds it")
    command = [tool, "export", path, "-f", "csv", "--bands", "--comments"]
    made = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if made.returncode and not made.stdout:
        raise ValueError(made.stderr.strip() or f"{tool} failed with status {made.returncode}")
    sys.stderr.write(made.stderr)
    return read_csv(io.StringIO(made.stdout))


def read(file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the columns of a file, and what it says of the recording, by what it begins with."""
    with sys.stdin.buffer if file == "-" else open(file, "rb") as raw:
        start = raw.peek(4)[:4]
        if start == b"PAR1":
            return read_parquet(raw.read())
        if start == b"\xff\xff\xff\xff":
            return read_trace(file)
        plain = gzip.open(raw) if start[:2] == b"\x1f\x8b" else raw
        with io.TextIOWrapper(plain, "utf-8", "replace", newline="") as lines:
            return read_csv(lines)


def printable(text: str, most: int) -> str:
    """Make one short line of any text."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def draw(faults: np.ndarray, labels: dict, notes: dict, title: str, size: str) -> Figure:
    """Draw the whole picture, in pixels at 100 dots per inch."""
    width, height = map(int, size.split("x"))
    figure = Figure(figsize=(width / 100, height / 100), facecolor="white")
    panels, counts = np.unique(faults.panel, return_counts=True)
    shown = np.sort(np.argsort(-counts, kind="stable")[:PANELS_MOST])
    heights = np.sqrt(counts[shown]) + np.sqrt(counts).sum() / 20
    heights = [heights.sum() / 12, *heights]
    rate, *axes = figure.subplots(len(shown) + 1, sharex=True, height_ratios=heights,
                                  subplot_kw={"xmargin": 0.005})
    figure.subplots_adjust(left=330 / width, right=1 - 24 / width, top=1 - 90 / height,
                           bottom=60 / height, hspace=0.08)
    x = (faults.time - faults.time[0]) / 1e9
    masks = {access: faults.access == access for access in COLOURS}
    rate.hist([x[mask] for mask in masks.values()], 200, stacked=True, histtype="stepfilled",
              color=list(COLOURS.values()))
    rate.yaxis.set(major_locator=MaxNLocator(2), major_formatter=EngFormatter(sep=""))
    rate.annotate("faults", (17, 0.5), xycoords=("figure points", "axes fraction"), va="center")
    size = 4 - (len(x) > 20_000) - 2 * (len(x) > 100_000)
    for ax, n in zip(axes, shown, strict=True):
        for access, mask in masks.items():
            here = mask & (faults.panel == panels[n])
            ax.plot(x[here], faults.offset[here].astype(float), "o", ms=size, mew=0,
                    color=COLOURS[access], rasterized=True)
        ax.annotate(f"{printable(str(labels[panels[n]]), 22)}  {counts[n]:,}", (17, 0.5),
                    xycoords=("figure points", "axes fraction"), va="center", parse_math=False)
        high = int(faults.offset[faults.panel == panels[n]].max())
        ax.set_yticks([high], [f"+{high:#x}"], va="top", fontsize=8)
    axes[-1].set_xlabel("seconds since the first fault")
    lost = f"lost: {notes.get('lost', 'not known, the file has no loss line')}"
    colour = "#c8102e" if re.search("[1-9]", lost) else "#2e7d4f" if "=0" in lost else "#8a5a00"
    if hidden := len(x) - counts[shown].sum():
        lost += f"; {hidden:,} faults of {len(panels) - len(shown):,} regions are not drawn"
    facts = f"{len(x):,} faults  ·  {x[-1]:.3g} s  ·  processes: {len(np.unique(faults.pid)):,}"
    put = {"va": "top", "parse_math": False}
    title = printable(title, max((width - 560) // 13, 20))
    figure.text(24 / width, 1 - 16 / height, title, fontsize=15, weight="bold", **put)
    figure.text(24 / width, 1 - 50 / height, facts, **put)
    figure.text(1 - 24 / width, 1 - 50 / height, lost, color=colour, ha="right", **put)
    dots = [Line2D([], [], ls="", marker="o", ms=8, color=colour) for colour in COLOURS.values()]
    figure.legend(dots, [f"{access}  {mask.sum():,}" for access, mask in masks.items()], ncol=3,
                  loc="upper right", frameon=False, bbox_to_anchor=(1, 1 - 6 / height))
    return figure


def write(figure: Figure, output: Path, dpi: int) -> None:
    """Write the picture beside its place, and move it there when it is whole."""
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "xb") as file:
            figure.savefig(file, format=output.suffix[1:].lower(), dpi=dpi)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def run(file: str, output: Path, pids: list[int], size: str, dpi: int) -> None:
    """Read, choose, draw and write."""
    if output.suffix.lower() not in (".png", ".svg", ".pdf") or output.is_dir():
        raise ValueError(f"{output} is no picture's name: end it with .png, .svg or .pdf")
    if output.resolve() == Path(file).resolve():
        raise ValueError(f"{output} is the recording itself: name the picture with -o FILE.png")
    table, notes = read(file)
    faults, labels = arranged(table)
    faults = faults[np.isin(faults.pid, pids)] if pids else faults
    if not len(faults):
        raise ValueError("there are no such faults; check what was traced, and its pid")
    write(draw(faults, labels, notes, notes.get("command") or file, size), output, dpi)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="plot_faults.py", description=__doc__.split("\n")[0])
    parser.add_argument("file", help="CSV, Parquet or trace of fault-tracer; - is standard input")
    parser.add_argument("-o", "--output", help="end its name with .png, .svg or .pdf")
    parser.add_argument("--pid", type=int, action="append", help="only this process; repeatable")
    size = re.compile(r"[1-9]\d{2,3}x[1-9]\d{2,3}").fullmatch
    parser.add_argument("--size", type=size, default="1600x1000", help="default: 1600x1000")
    parser.add_argument("--dpi", type=int, default=100, help="200: twice as sharp (default: 100)")
    asked = parser.parse_args(argv)
    if asked.size is None:
        parser.error("--size: expected WIDTHxHEIGHT, from 100 to 9999")
    output = Path(asked.output or Path(asked.file.removesuffix(".gz")).with_suffix(".png"))
    try:
        run(asked.file, output, asked.pid, asked.size[0], asked.dpi)
    except (ImportError, OSError, ValueError, OverflowError, zlib.error, csv.Error) as error:
        print("plot_faults.py: error:", asked.file, *str(error).split(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
