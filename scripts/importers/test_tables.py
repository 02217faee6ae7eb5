# SPDX-License-Identifier: GPL-2.0-only
"""Traces and exports, opened by readers of tables."""

import io
import json
import os
import subprocess
from collections import Counter

import duckdb
import polars as pl
import pyarrow.ipc
import pyarrow.parquet
import pytest
from expected import FAULTS, NUMBERS, PID, SYMBOL, fault, faults

EVENTS = {
    "present": 1,
    "fork": 1,
    "exec": 1,
    "rename": 1,
    "alive": 1,
    "text": 1,
    "fault": FAULTS,
    "gap": 1,
    "lost": 1,
    "overrun": 1,
    "exit": 1,
    "hits": 1,
    "recorded": 1,
    "dropped": 1,
    "overwritten": 1,
    "missed": 1,
    "untold": 1,
    "missed_returns": 1,
    "end": 1,
}


def counted(values):
    return dict(Counter(values))


def check_faults(rows):
    """Checks that the faults among the rows are those of the trace, in their order."""
    rows = [row for row in rows if row["event"] == "fault"]
    assert [{name: row[name] for name in fault(1)} for row in rows] == faults()
    for number, row in zip(NUMBERS, rows):
        assert (row["ip_offset"] == (1 << 56) - 1) == (number % 2 == 0)


def test_pyarrow_opens_a_trace(trace):
    with pyarrow.ipc.open_stream(trace) as stream:
        metadata = {key.decode(): value.decode() for key, value in stream.schema.metadata.items()}
        table = stream.read_all()
    table.validate(full=True)
    assert metadata["command"] == "fixture"
    assert metadata["clock"] == "CLOCK_MONOTONIC"
    assert int(metadata["wall_offset_ns"]) == 1_000_000
    account = ["hits", "recorded", "dropped", "overwritten", "missed", "untold"]
    assert [int(metadata[name]) for name in account] == [FAULTS + 9, FAULTS, 9, 0, 0, 0]
    rows = table.to_pylist()
    assert counted(row["event"] for row in rows) == EVENTS
    check_faults(rows)
    [exit_row] = [row for row in rows if row["event"] == "exit"]
    assert (exit_row["min_flt"], exit_row["maj_flt"]) == ((1 << 64) - 1, 6)
    [exec_row] = [row for row in rows if row["event"] == "exec"]
    assert (exec_row["program"], exec_row["old_tid"]) == ("/bin/fixture", PID + 1)
    [end] = [row for row in rows if row["event"] == "end"]
    assert end["count"] == FAULTS


def test_the_file_is_a_trace_at_any_moment(trace, moments):
    """It is changed while it is written: what is found there is never less, and never twice."""
    whole = pl.read_ipc_stream(trace)
    batches, before = [], 0
    for moment in moments:
        theirs = pl.read_ipc_stream(moment)
        with pyarrow.ipc.open_stream(moment) as stream:
            parts = list(stream)
        assert sum(part.num_rows for part in parts) == theirs.height >= before
        assert theirs.equals(whole.head(theirs.height))
        batches.append(len(parts))
        before = theirs.height
    assert before == whole.height
    # Three batches that were flushed, and then one of all their rows, behind the empty first one.
    assert max(batches) == 4 and batches[-1] == 2


def test_a_trace_in_a_pipe_has_the_same_rows(trace):
    fixture = [os.environ["FIXTURE"], "/dev/stdout"]
    piped = subprocess.run(fixture, check=True, stdout=subprocess.PIPE).stdout
    with pyarrow.ipc.open_stream(piped) as stream:
        assert stream.schema.metadata[b"dropped"].decode().strip() == "unknown"
        batches = list(stream)
    # The first, three that were flushed, and the rest.
    assert [batch.num_rows > 0 for batch in batches] == [False, True, True, True, True]
    # But for where this other run's code lies.
    rows = [
        table.with_columns(pl.when(pl.col("event") != "text").then("address").alias("address"))
        for table in (pl.read_ipc_stream(io.BytesIO(piped)), pl.read_ipc_stream(trace))
    ]
    assert rows[0].equals(rows[1])


def test_polars_opens_a_trace(trace):
    table = pl.read_ipc_stream(trace)
    assert dict(table["event"].cast(pl.String).value_counts().iter_rows()) == EVENTS
    check_faults(table.iter_rows(named=True))


def with_ip(trace):
    """The faults with all their instruction pointers, as docs/trace-format.md says."""
    names = [pl.col("event", "object").cast(pl.String)]
    table = pl.read_ipc_stream(trace).with_columns(names).sort("time_ns", maintain_order=True)
    texts = table.filter(pl.col("event") == "text").select(
        "time_ns",
        "pid",
        "object",
        base=pl.col("address").cast(pl.Int64) - pl.col("file_offset").cast(pl.Int64),
    )
    rows = table.filter(pl.col("event") == "fault")
    rows = rows.join_asof(texts, on="time_ns", by=["pid", "object"])
    ip = pl.col("base").fill_null(0) + pl.col("ip_offset").cast(pl.Int64)
    return rows.with_columns(ip=ip.cast(pl.UInt64))


def test_instruction_pointers_can_be_computed(trace, export):
    ours = [json.loads(line) for line in export("jsonl").read_text().splitlines()]
    ours = [int(row["ip"], 16) for row in ours if row["event"] == "fault"]
    theirs = with_ip(trace)["ip"].to_list()
    assert theirs == ours
    assert len(set(theirs)) == 3


def test_duckdb_queries_parquet(export):
    path = str(export("parquet"))
    database = duckdb.connect()
    database.execute(f"CREATE VIEW faults AS SELECT * FROM read_parquet('{path}')")
    events = database.sql("SELECT event, count(*) FROM faults GROUP BY event").fetchall()
    assert dict(events) == EVENTS
    symbols = database.sql(
        "SELECT symbol, symbol_offset, count(*) FROM faults WHERE event = 'fault' "
        "GROUP BY ALL ORDER BY symbol_offset NULLS LAST"
    ).fetchall()
    assert symbols == [(SYMBOL, 1, 750), (SYMBOL, 3, 750), (None, None, 1500)]
    [[build_id]] = database.sql("SELECT build_id FROM faults WHERE event = 'text'").fetchall()
    assert bytes.fromhex(build_id)
    [[unknown]] = database.sql(
        "SELECT count(*) FROM faults WHERE ip IS NULL AND event = 'fault'"
    ).fetchall()
    assert unknown == 0


def test_parquet_has_the_rows_of_the_trace(trace, export):
    theirs = pyarrow.parquet.read_table(export("parquet"))
    with pyarrow.ipc.open_stream(trace) as stream:
        ours = stream.read_all()
    added = ["ip", "symbol", "symbol_offset"]
    assert theirs.column_names == ours.column_names + added
    assert theirs.schema.metadata[b"command"] == b"fixture"
    assert int(theirs.schema.metadata[b"dropped"]) == 9
    assert theirs.select(ours.column_names).to_pylist() == ours.to_pylist()
    rows = theirs.to_pylist()
    check_faults(rows)
    assert [row["ip"] for row in rows if row["event"] == "fault"] == with_ip(trace)["ip"].to_list()


def test_duckdb_reads_json_lines(export):
    path = str(export("jsonl"))
    rows = "read_json_auto(?, format = 'newline_delimited')"
    query = f"SELECT event, count(*) FROM {rows} GROUP BY event"
    assert dict(duckdb.execute(query, [path]).fetchall()) == EVENTS


@pytest.mark.parametrize("reader", ["polars", "duckdb"])
def test_csv_is_read_with_its_quotes(export, reader):
    path = export("csv")
    if reader == "polars":
        table = pl.read_csv(path, comment_prefix="#", infer_schema_length=None)
    else:
        options = """comment = '#', header = true, delim = ',', quote = '"', escape = '"'"""
        table = duckdb.sql(f"SELECT * FROM read_csv('{path}', {options})").pl()
    assert table.height == FAULTS
    for column in ["time_ns", "mapping"]:
        assert table[column].to_list() == [row[column] for row in faults()]
    assert counted(table["symbol"].to_list())[SYMBOL] == 1500
