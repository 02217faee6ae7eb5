# SPDX-License-Identifier: GPL-2.0-only
"""plot_faults.py draws a damaged trace as far as it can be read, or says why not in one line."""

from __future__ import annotations

import io
from pathlib import Path

import plot_faults as pf
import pyarrow as arrow
import pyarrow.ipc
import pytest
from mutations import FOREIGN, mutated


def plot(folder: Path, content: bytes, capsys) -> int:
    """Plot a trace: a picture, or none and one line that says why; return the status."""
    source, picture = folder / "damaged.arrow", folder / "damaged.png"
    source.write_bytes(content)
    picture.unlink(missing_ok=True)
    status = pf.main([str(source), "-o", str(picture), "--size", "800x500", "--dpi", "50"])
    lines = capsys.readouterr().err.split("\n")[:-1]
    # What the tool says of the trace stands before it.
    ours = [line for line in lines if not line.startswith("fault-tracer: ")]
    kinds = [line.removeprefix("plot_faults.py: ").split(":")[0] for line in ours]
    assert kinds == ["warning"] * (len(ours) - status) + ["error"] * status, lines
    assert picture.exists() == (status == 0)
    return status


def test_damaged_traces(trace, tmp_path, capsys):
    """A damaged trace is drawn as far as it can be read, or refused."""
    sound = trace.read_bytes()
    assert plot(tmp_path, sound, capsys) == 0
    # Mutations of the beginning hit the columns' names and types, others the dictionaries and rows.
    several = [part + sound[4096:] for part in mutated(sound[:4096], 20, 80)]
    several += mutated(sound, 20, 80)
    assert {plot(tmp_path, damaged, capsys) for damaged in several} == {0, 1}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_behind_the_start_of_a_trace(tmp_path, capsys, content):
    """What only begins like a trace is refused."""
    assert plot(tmp_path, b"\xff\xff\xff\xff" + content, capsys) == 1


@pytest.mark.parametrize("number", [arrow.int64(), arrow.utf8(), arrow.float64()], ids=str)
@pytest.mark.parametrize("text", [arrow.utf8(), arrow.int64()], ids=str)
def test_streams_of_others_are_refused(tmp_path, capsys, number, text):
    """An Arrow stream with our mark, but other columns, is no trace."""
    numbers, texts = ["time_ns", "pid", "tid", "address", "count"], ["event", "access", "flags"]
    columns = [(name, number) for name in numbers] + [(name, text) for name in texts]
    for count in (0, 1, len(columns)):
        schema = arrow.schema(columns[:count], {"fault_tracer.format": "2"})
        sink = io.BytesIO()
        with arrow.ipc.new_stream(sink, schema) as writer:
            empty = [arrow.nulls(3, kind) for _, kind in columns[:count]]
            writer.write_batch(arrow.record_batch(empty, schema=schema))
        assert plot(tmp_path, sink.getvalue(), capsys) == 1
