# SPDX-License-Identifier: GPL-2.0-only
"""plot_faults.py reads traces where pyarrow is installed, as it is here."""

import io

import plot_faults as pf
import pyarrow as arrow
import pyarrow.ipc
import pytest
from expected import ACCESSES, faults


def test_the_trace_of_a_recorder_is_read(trace):
    rec = pf.load_file(str(trace))
    for column in ["time_ns", "pid", "tid", "address"]:
        assert getattr(rec, column).tolist() == [row[column] for row in faults()]
    assert rec.access.tolist() == [ACCESSES.index(row["access"]) for row in faults()]
    assert rec.losses == pf.Losses(9, 0, 0)
    assert pf.title_text(rec) == "fixture"


def test_a_csv_is_read_with_and_without_comments(export):
    for options, losses in (((), None), (("--comments",), pf.Losses(9, 0, 0))):
        rec = pf.load_file(str(export("csv", *options)))
        for column in ["time_ns", "pid", "tid", "address"]:
            assert getattr(rec, column).tolist() == [row[column] for row in faults()]
        assert rec.losses == losses
        assert rec.warnings == []


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


def test_load_reads_a_trace_of_any_rows(tmp_path):
    """Faults alone, in the order of time."""
    fault = {"event": "fault", "pid": 7, "tid": 8, "access": "write", "flags": "user|vma-lock"}
    rows = [
        {"event": "fork", "time_ns": 5, "pid": 7, "tid": 8},
        fault | {"time_ns": 20, "address": 0xFFFFFFFFFF600FFF},
        fault | {"event": "pending", "time_ns": 30, "address": 0x3000},
        fault | {"time_ns": 10, "address": 0x1000, "access": "execute", "flags": ""},
        {"event": "dropped", "time_ns": 40, "count": 3},
        {"event": "dropped", "time_ns": 40, "count": 4},
        {"event": "missed", "time_ns": 40, "count": 1},
        {"event": "end", "time_ns": 40, "count": 2},
    ]
    about = {"fault_tracer.format": "1", "command": "ls", "wall_offset_ns": "1000"}
    trace = tmp_path / "faults.arrow"
    trace.write_bytes(trace_bytes(rows, about))
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
    trace.write_bytes(trace_bytes(rows, {"other": "1"}))
    with pytest.raises(pf.PlotError, match="no trace of 'fault-tracer record'"):
        pf.load_file(str(trace))
    trace.write_bytes(pf.ARROW_START + b" rest of a trace")
    with pytest.raises(pf.PlotError, match="no sound trace"):
        pf.load_file(str(trace))
