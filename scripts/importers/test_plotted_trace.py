# SPDX-License-Identifier: GPL-2.0-only
"""plot_faults.py reads the trace itself, where pyarrow is: sound, damaged and of somebody else."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pyarrow as arrow
import pyarrow.ipc
import pytest

import plot_faults as pf
from tests.mutations import FOREIGN, mutated

FAULT = {"event": "fault", "pid": 7, "tid": 8, "access": "write", "flags": "user|vma-lock"}
ROWS = [
    {"event": "fork", "time_ns": 5, "pid": 7, "tid": 8},
    FAULT | {"time_ns": 20, "address": 0xFFFFFFFFFF600FFF},
    FAULT | {"event": "pending", "time_ns": 30, "address": 0x3000},
    FAULT | {"time_ns": 10, "address": 0x1000, "access": "execute", "flags": ""},
    {"event": "dropped", "time_ns": 40, "count": 3},
    {"event": "dropped", "time_ns": 40, "count": 4},
    {"event": "missed", "time_ns": 40, "count": 1},
    {"event": "end", "time_ns": 40, "count": 2},
]
ABOUT = {"fault_tracer.format": "1", "command": "ls", "wall_offset_ns": "1000"}


def trace_bytes(rows, metadata) -> bytes:
    """Write a trace as the recorder does: dictionaries for texts, a batch for each row."""
    texts = arrow.dictionary(arrow.int8(), arrow.utf8())
    types = {
        "event": texts,
        "time_ns": arrow.int64(),
        "pid": arrow.uint32(),
        "tid": arrow.uint32(),
        "access": texts,
        "address": arrow.uint64(),
        "flags": texts,
        "count": arrow.uint64(),
    }
    schema = arrow.schema(types.items(), metadata=metadata)
    sink = io.BytesIO()
    with arrow.ipc.new_stream(sink, schema) as writer:
        for row in rows:
            columns = [arrow.array([row.get(name)], kind) for name, kind in types.items()]
            writer.write_batch(arrow.record_batch(columns, schema=schema))
    return sink.getvalue()


def test_load_reads_a_trace(tmp_path):
    """The trace of a recorder is read: faults alone, in the order of time."""
    trace = tmp_path / "faults.arrow"
    trace.write_bytes(trace_bytes(ROWS, ABOUT))
    rec = pf.load_file(str(trace))
    assert rec.time_ns.tolist() == [10, 20]
    assert rec.address.tolist() == [0x1000, 0xFFFFFFFFFF600FFF]
    assert rec.access.tolist() == [2, 1]
    assert rec.has_flag("vma-lock").tolist() == [False, True]
    assert rec.losses == pf.Losses(7, 0, 1)
    assert rec.wall_start_ns() == 1010
    assert pf.title_text(rec) == "ls"
    # Cut off: what stands before is drawn, and losses are not known.
    whole = trace.read_bytes()
    trace.write_bytes(whole[: len(whole) * 2 // 3])
    rec = pf.load_file(str(trace))
    assert len(rec) == 2
    assert rec.losses is None
    assert "cut off or damaged" in rec.warnings[0]
    trace.write_bytes(trace_bytes(ROWS, {"other": "1"}))
    with pytest.raises(pf.PlotError, match="no trace of 'fault-tracer record'"):
        pf.load_file(str(trace))
    trace.write_bytes(b"\xff\xff\xff\xff rest of a trace")
    with pytest.raises(pf.PlotError, match="no sound trace"):
        pf.load_file(str(trace))


def plot(folder: Path, content: bytes, capsys) -> int:
    """Plot a trace: a picture, or none and one line that says why; return the status."""
    source, picture = folder / "faults.arrow", folder / "faults.png"
    source.write_bytes(content)
    picture.unlink(missing_ok=True)
    status = pf.main([str(source), "-o", str(picture), "--size", "800x500", "--dpi", "50"])
    lines = capsys.readouterr().err.split("\n")[:-1]
    kinds = [line.removeprefix("plot_faults.py: ").split(":")[0] for line in lines]
    assert kinds == ["warning"] * (len(lines) - status) + ["error"] * status, lines
    assert picture.exists() == (status == 0)
    return status


def test_damaged_traces(tmp_path, capsys):
    """A damaged trace is drawn as far as it can be read, or refused."""
    recorded = tmp_path / "recorded.arrow"
    subprocess.run([os.environ["FIXTURE"], recorded], check=True)
    for sound, count in ((trace_bytes(ROWS, ABOUT), 150), (recorded.read_bytes(), 50)):
        assert plot(tmp_path, sound, capsys) == 0
        statuses = {plot(tmp_path, damaged, capsys) for damaged in mutated(sound, 20, count)}
        assert statuses == {0, 1}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_behind_the_start_of_a_trace(tmp_path, capsys, content):
    """What only begins like a trace is refused."""
    assert plot(tmp_path, pf.ARROW_START + content, capsys) == 1


def test_streams_of_others_are_refused(tmp_path, capsys):
    """An Arrow stream with our mark and other columns is no trace."""
    for names in ([], ["event"], list(ROWS[1]), ["time_ns", *ROWS[1]]):
        schema = arrow.schema([(name, arrow.utf8()) for name in names], ABOUT)
        sink = io.BytesIO()
        with arrow.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(arrow.record_batch([["fault"]] * len(names), schema=schema))
        assert plot(tmp_path, sink.getvalue(), capsys) == 1
