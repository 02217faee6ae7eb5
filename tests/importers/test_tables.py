# SPDX-License-Identifier: GPL-2.0-only
"""Traces and exports, opened by readers of tables."""

import io
import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
from expected import FAULTS, NUMBERS, PID, SYMBOL, WALL_OFFSET, callers, fault, faults, symbol

EVENTS = {
    "present": 1,
    "fork": 1,
    "exec": 1,
    "rename": 1,
    "alive": 1,
    "text": 1,
    "frame": 3,
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
    "sideband_dropped": 1,
    "missed_returns": 1,
    "end": 1,
}


def counted(values):
    return dict(Counter(values))


def check_faults(rows):
    """Checks that the faults among the rows of a trace are those of the fixture."""
    rows = [row for row in rows if row["event"] == "fault"]
    assert [row["time_ns"] for row in rows] != sorted(row["time_ns"] for row in rows)
    rows.sort(key=lambda row: row["time_ns"])
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
    account = ["hits", "recorded", "dropped", "overwritten", "missed", "sideband_dropped"]
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


def test_the_file_is_a_trace_at_any_moment(folder, trace, moments):
    """It grows by whole batches, so that never less is found; a compact copy has the same rows."""
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
    # An empty one, three that were flushed, and the rest.
    assert batches == sorted(batches) and batches[-1] == 5
    compact = folder / "compact.arrow"
    assert pl.read_ipc_stream(compact).equals(whole)
    with pyarrow.ipc.open_stream(compact) as stream:
        assert len(list(stream)) == 1
    assert compact.stat().st_size < trace.stat().st_size


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


def ips(trace):
    """The instruction pointers of the faults, in the order of their times."""
    return with_ip(trace)["ip"].to_list()


def test_instruction_pointers_can_be_computed(trace, export):
    ours = [json.loads(line)["ip"] for line in export("jsonl").read_text().splitlines()]
    assert ips(trace) == ours
    assert len(set(ours)) == 3


def exported(number):
    """Columns of a fault as exports have them."""
    row = fault(number)
    row["time"] = WALL_OFFSET + row["time_ns"]
    row["symbol"], row["symbol_offset"] = symbol(number)
    row["callers"] = ";".join(callers(number)) if callers(number) else None
    return row


def check_export(table, without=()):
    """Checks that a table of polars has exactly the faults, in the order of their times."""
    if table["time"].dtype.is_temporal():
        table = table.with_columns(pl.col("time").dt.epoch("ns"))
    assert table.height == FAULTS
    assert "event" not in table.columns
    for name in exported(1):
        if name not in without:
            assert table[name].to_list() == [exported(number)[name] for number in NUMBERS], name


# The types of the columns: no numbers without a sign, no dictionaries.
INTEGERS = [
    *["time_ns", "address", "ip", "file_offset", "ip_offset", "symbol_offset", "duration_ns"],
    "page_bytes",
]
SMALL = ["cpu", "pid", "tid", "attempts", "returns", "page_node", "around", "stack"]
TEXTS = [
    *["process", "thread", "program", "kind", "fate", "access", "mapping", "permissions"],
    *["flags", "object", "build_id", "symbol", "callers"],
]
# A fault may have none of these.
NULLABLE = {
    *["process", "thread", "program", "mapping", "permissions", "file_offset", "object"],
    *["ip_offset", "build_id", "symbol", "symbol_offset", "duration_ns", "page_bytes"],
    *["page_node", "around"],
    *["stack", "callers"],
}


def read_typed(path):
    """A table of the formats that have types, by pyarrow."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    with pyarrow.ipc.open_file(path) as file:
        return file.read_all()


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columns_have_plain_types(export, form):
    table = read_typed(export(form))
    table.validate(full=True)
    types = {field.name: field.type for field in table.schema}
    expected = {name: pyarrow.int64() for name in INTEGERS}
    expected |= {name: pyarrow.int32() for name in SMALL}
    expected |= {name: pyarrow.string() for name in TEXTS}
    expected["time"] = pyarrow.timestamp("ns", "UTC")
    assert types == expected
    assert {field.name for field in table.schema if field.nullable} == NULLABLE
    assert table.schema.metadata[b"command"] == b"fixture"
    assert int(table.schema.metadata[b"dropped"]) == 9
    assert len(set(table["build_id"].to_pylist()) - {None}) == 1


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_polars_opens_exports(export, trace, form):
    path = export(form)
    table = pl.read_parquet(path) if form == "parquet" else pl.read_ipc(path)
    check_export(table)
    assert table["ip"].to_list() == ips(trace)
    lazy = pl.scan_parquet(path) if form == "parquet" else pl.scan_ipc(path)
    late = lazy.filter(pl.col("mapping").str.contains("1499")).collect()
    assert late.height == 2


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_pandas_opens_exports(export, form):
    path = export(form)
    table = pd.read_parquet(path) if form == "parquet" else pd.read_feather(path)
    assert len(table) == FAULTS
    assert str(table["time"].dtype) == "datetime64[ns, UTC]"
    assert (table["time"].astype("int64") - table["time_ns"] == WALL_OFFSET).all()
    assert table["time"].is_monotonic_increasing
    for name in INTEGERS + SMALL:
        wanted = "i" if name not in NULLABLE else "f"
        assert table[name].dtype.kind == wanted, name
    assert table["address"].diff().iloc[1:].eq(4096).all()
    assert (table["address"] - table["address"].iloc[-1]).iloc[0] == -4096 * (FAULTS - 1)
    assert table["mapping"].str.contains("bin").all()
    assert table["fate"].eq("major").sum() == FAULTS // 5


def test_the_query_of_the_documents_follows_stacks(export):
    document = Path(__file__).resolve().parents[2] / "docs" / "trace-format.md"
    [query] = re.findall(r"^```sql\n(.*?)^```$", document.read_text(), re.M | re.S)
    path = str(export("parquet", "--events"))
    found = duckdb.sql(query.replace("FILE.parquet", path)).fetchall()
    assert sorted(found) == [(3, [None, SYMBOL]), (4, [SYMBOL])]


def test_an_archive_has_the_symbols_when_the_program_is_gone(folder):
    program = folder / "program"
    program.write_bytes(Path(os.environ["FIXTURE"]).read_bytes())
    program.chmod(0o755)
    trace, archive = folder / "program.arrow", folder / "program.symbols"
    subprocess.run([program, trace], check=True)
    tool = os.environ["FAULT_TRACER"]
    for said in ("1 file in", "0 bytes of them new"):
        kept = subprocess.run([tool, "archive", trace], check=True, stderr=subprocess.PIPE)
        assert said in kept.stderr.decode()
    [copy] = archive.glob(".build-id/*/*.debug")
    assert copy.read_bytes() == program.read_bytes()
    program.unlink()

    def symbols(trace, *options):
        command = [tool, "export", trace, "-f", "jsonl", *options]
        text = subprocess.run(command, check=True, capture_output=True).stdout
        return {json.loads(line).get("symbol") for line in text.splitlines()}

    # It stands beside the trace, or its place is named.
    assert symbols(trace) == {None, SYMBOL}
    elsewhere = trace.rename(folder / "elsewhere.arrow")
    assert symbols(elsewhere) == {None}
    assert symbols(elsewhere, "--debug-dir", archive) == {None, SYMBOL}


def test_duckdb_queries_exports(export):
    path = str(export("parquet"))
    database = duckdb.connect()
    database.execute(f"CREATE VIEW faults AS SELECT * FROM read_parquet('{path}')")
    [row] = database.sql(
        "SELECT count(*), min(address - 5000000), sum(epoch_ns(time) - time_ns)::BIGINT, "
        "count(*) FILTER (program = '/bin/fixture'), count(*) FILTER (mapping LIKE '%.bin') "
        "FROM faults"
    ).fetchall()
    assert row == (FAULTS, 4096 - 5000000, FAULTS * WALL_OFFSET, FAULTS, FAULTS)
    [[differences]] = database.sql(
        "SELECT list(DISTINCT d) FROM (SELECT address - lag(address) OVER (ORDER BY time) AS d "
        "FROM faults) WHERE d IS NOT NULL"
    ).fetchall()
    assert differences == [4096]
    symbols = database.sql(
        "SELECT symbol, symbol_offset, count(*) FROM faults "
        "GROUP BY ALL ORDER BY symbol_offset NULLS LAST"
    ).fetchall()
    assert symbols == [(SYMBOL, 1, 750), (SYMBOL, 3, 750), (None, None, 1500)]
    database.register("feather", pyarrow.feather.read_table(export("arrow")))
    assert database.sql("SELECT count(*), max(address) FROM feather").fetchall() == [
        (FAULTS, FAULTS * 4096)
    ]


def with_events(trace):
    """The rows of a trace that are to be in an export with all events, by pyarrow."""
    with pyarrow.ipc.open_stream(trace) as stream:
        rows = stream.read_all().to_pylist()
    return sorted(rows, key=lambda row: row["time_ns"])


def signed(number):
    """What 64 bits are with a sign."""
    return number - (1 << 64) if number is not None and number >= 1 << 63 else number


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_all_events_are_there_on_request(trace, export, form):
    theirs = read_typed(export(form, "--events")).to_pylist()
    ours = with_events(trace)
    assert counted(row["event"] for row in theirs) == EVENTS
    # What exports have otherwise.
    other = {"ip_offset", "build_id", "returns"}
    for name in set(ours[0]) - other:
        values = [row[name] if isinstance(row[name], str) else signed(row[name]) for row in ours]
        assert [row[name] for row in theirs] == values, name
    [text] = [row for row in theirs if row["event"] == "text"]
    assert bytes.fromhex(text["build_id"])
    assert text["inode"] == os.stat(os.environ["FIXTURE"]).st_ino
    assert text["changed_ns"] == os.stat(os.environ["FIXTURE"]).st_ctime_ns


@pytest.mark.parametrize("options", [(), ("--events",)])
def test_json_lines_are_read(export, options):
    path = str(export("jsonl", *options))
    table = duckdb.sql(f"SELECT * FROM read_json('{path}')").pl()
    if options:
        assert dict(table["event"].value_counts().iter_rows()) == EVENTS
        table = table.filter(pl.col("event") == "fault").drop("event")
    theirs = pl.read_ndjson(path, infer_schema_length=None)
    assert theirs.height == (sum(EVENTS.values()) if options else FAULTS)
    check_export(table, without=("time",))
    frame = pd.read_json(path, lines=True)
    assert frame["address"].dropna().min() == 4096


def test_csv_needs_no_options(export):
    """Its first line is the header, and each other line a fault."""
    path = export("csv")
    lines = path.read_text().splitlines()
    assert lines[0].startswith("time_ns,cpu,pid,tid,address,ip,access,flags,process,")
    # Letters for the access, as drain has them, and hexadecimal addresses.
    without = ("access", "address", "time")
    check_export(pl.read_csv(path), without)
    check_export(duckdb.sql(f"SELECT * FROM read_csv('{path}')").pl(), without)
    frame = pd.read_csv(path)
    assert len(frame) == FAULTS
    assert frame["time_ns"].tolist() == [row["time_ns"] for row in faults()]
    assert frame["mapping"].tolist() == [row["mapping"] for row in faults()]
    for name in ["time_ns", *SMALL]:
        assert frame[name].dtype.kind == ("f" if name in NULLABLE else "i"), name
    assert [int(text, 16) for text in frame["address"]] == [row["address"] for row in faults()]
    times = pd.to_datetime(frame["time"])
    assert str(times.dt.tz) == "UTC"
    assert (times.dt.as_unit("ns").astype("int64") - frame["time_ns"] == WALL_OFFSET).all()
    [[ours]] = duckdb.sql(
        f"SELECT sum(epoch_us(time::TIMESTAMPTZ) - time_ns // 1000)::BIGINT FROM read_csv('{path}')"
    ).fetchall()
    assert ours == FAULTS * WALL_OFFSET // 1000
    times = pl.read_csv(path)["time"].str.to_datetime(time_unit="ns", time_zone="UTC")
    assert times.dt.epoch("ns").to_list() == [exported(number)["time"] for number in NUMBERS]


def test_csv_with_comments_has_the_same_lines(export):
    plain = export("csv").read_text()
    lines = export("csv", "--comments").read_text().splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("#")) == plain
    assert "# wall_offset_ns: 1000000\n" in lines
    assert lines[-1] == "# lost: dropped=9 overwritten=0 missed=0\n"


def test_csv_has_all_events_on_request(export):
    path = export("csv", "--events")
    table = pl.read_csv(path, infer_schema_length=None)
    assert dict(table["event"].value_counts().iter_rows()) == EVENTS
    [(count,)] = duckdb.sql(
        f"SELECT \"count\" FROM read_csv('{path}') WHERE event = 'end'"
    ).fetchall()
    assert count == FAULTS
