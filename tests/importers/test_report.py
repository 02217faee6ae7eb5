# SPDX-License-Identifier: GPL-2.0-only
"""Every figure of `report --json` agrees with a DuckDB query on the Parquet export.

RECORDED_TRACES may name a folder with further traces, of real programs: each of them is checked,
too.
"""

import json
import os
import subprocess
from pathlib import Path

import duckdb
import pyarrow.ipc
import pyarrow.parquet
import pytest

KEYS = {
    "process": "process",
    "pid": "pid",
    "thread": "thread",
    "tid": "tid",
    "program": "program",
    "mapping": "mapping",
    "file": "case when file_offset is not null then mapping end",
    "kind": "kind",
    "fate": "fate",
    "access": "access",
    "symbol": "symbol",
    "object": "object",
    "cpu": "cpu",
    "node": "node_of(cpu)",
}

COUNTS = """
    count(*) as faults,
    count(*) filter (fate = 'major') as major,
    count(duration_ns) as timed,
    case when count(duration_ns) > 0 then sum(duration_ns)::hugeint end as time_ns,
    case when count(duration_ns) > 0
         then coalesce(sum(duration_ns) filter (fate = 'major'), 0)::hugeint end as major_time_ns,
    max(duration_ns) as longest_ns
"""
NAMES = ["faults", "major", "timed", "time_ns", "major_time_ns", "longest_ns"]

RECORDED = sorted(Path(os.environ.get("RECORDED_TRACES", "/nonexistent")).glob("*.arrow"))


def tool(*arguments):
    reported = subprocess.run(
        [os.environ["FAULT_TRACER"], *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return reported.stdout


@pytest.fixture(name="subject", scope="session", params=["fixture", *RECORDED], ids=str)
def a_trace(request):
    """A trace: the fixture's, and those that were recorded."""
    if request.param == "fixture":
        return request.getfixturevalue("trace")
    return request.param


@pytest.fixture(name="rows", scope="session")
def the_rows(subject, tmp_path_factory):
    """The faults of the Parquet export, as a table of DuckDB."""
    path = tmp_path_factory.mktemp("report") / "faults.parquet"
    tool("export", subject, "-f", "parquet", "-o", path)
    rows = duckdb.connect()
    columns = [row[0] for row in rows.execute(f"describe select * from '{path}'").fetchall()]
    events = "event = 'fault' and" if "event" in columns else ""
    rows.execute(
        f"create table faults as select * from '{path}' where {events} fate <> 'retried'"
    )
    rows.execute(f"create macro node_of(cpu) as case {nodes(path)} end")
    return rows


def nodes(path):
    """The NUMA node of each CPU as the cases of an SQL expression, by the metadata."""
    text = pyarrow.parquet.read_schema(path).metadata[b"nodes"].decode()
    cases = ["when false then 0"]
    for part in text.split():
        node, _, ranges = part.partition(":")
        for cpus in ranges.split(","):
            first, _, last = cpus.partition("-")
            cases.append(f"when cpu between {first} and {last or first} then {node}")
    return " ".join(cases)


@pytest.fixture(name="report", scope="session")
def the_report(subject):
    """The report, with a table by each key."""
    tables = [option for key in KEYS for option in ("--by", key)]
    return json.loads(tool("report", subject, "--json", *tables, "--by", "process,kind"))


def counts(rows, where="true"):
    found = rows.execute(f"select {COUNTS} from faults where {where}").fetchone()
    return dict(zip(NAMES, found))


def taken(from_json):
    return {name: from_json[name] for name in NAMES}


def histogram(rows, where="true"):
    """Durations by powers of two, from the first that there is to the last."""
    found = rows.execute(
        "select least(floor(log2(greatest(duration_ns, 1)))::int, 39) as power, count(*) "
        f"from faults where duration_ns is not null and {where} group by power"
    ).fetchall()
    if not found:
        return []
    found = dict(found)
    powers = range(min(found), max(found) + 1)
    return [(0 if power == 0 else 1 << power, found.get(power, 0)) for power in powers]


def steps(from_json):
    return [(step["from_ns"], step["faults"]) for step in from_json]


def test_totals(rows, report):
    totals = report["totals"]
    assert totals["faults"] > 0
    assert taken(totals) == counts(rows)
    wanted = rows.execute(
        "select sum(attempts)::hugeint, count(distinct pid), count(distinct tid) from faults"
    ).fetchone()
    assert (totals["attempts"], totals["processes"], totals["threads"]) == wanted
    assert steps(report["histogram"]) == histogram(rows)


@pytest.mark.parametrize(
    "member,column", [("kinds", "kind"), ("fates", "fate"), ("accesses", "access")]
)
def test_parts(rows, report, member, column):
    for name, part in report[member].items():
        wanted = counts(rows, f"{column} = '{name}'")
        assert taken(part) == wanted, name
        if member == "kinds":
            assert steps(part["histogram"]) == histogram(rows, f"{column} = '{name}'")
    assert sum(part["faults"] for part in report[member].values()) == report["totals"]["faults"]


@pytest.mark.parametrize("key", KEYS)
def test_tables(rows, report, key):
    (table,) = [table for table in report["tables"] if table["by"] == [key]]
    wanted = rows.execute(
        f"select {KEYS[key]} as value, {COUNTS} from faults group by value"
    ).fetchall()
    wanted = {row[0]: dict(zip(NAMES, row[1:])) for row in wanted}
    assert {group[key]: taken(group) for group in table["groups"]} == wanted
    sizes = [group["faults"] for group in table["groups"]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_table_by_two_keys(rows, report):
    (table,) = [table for table in report["tables"] if table["by"] == ["process", "kind"]]
    wanted = rows.execute("select process, kind, count(*) from faults group by all").fetchall()
    found = [(group["process"], group["kind"], group["faults"]) for group in table["groups"]]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_cold_files(rows, report):
    wanted = rows.execute(
        "select mapping, count(*), case when count(duration_ns) > 0 then "
        "sum(duration_ns)::hugeint end from faults where fate = 'major' group by mapping"
    ).fetchall()
    timed = report["totals"]["timed"] > 0
    found = [(file["mapping"], file["major"], file["time_ns"]) for file in report["cold"]]
    wanted = [(name, major, (time or 0) if timed else None) for name, major, time in wanted]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_regions(rows, report):
    wanted = rows.execute(
        f"select program, mapping, {COUNTS} from faults group by program, mapping"
    ).fetchall()
    wanted = {(row[0], row[1]): dict(zip(NAMES, row[2:])) for row in wanted}
    found = {(of["program"], of["mapping"]): taken(of) for of in report["regions"]}
    assert found == wanted
    for region in report["regions"]:
        touched = sum(touch["faults"] for touch in region["touches"].values())
        assert touched == region["faults"]
        growth = region["growth"]
        assert sum(growth["steps"]) == region["touches"]["first"]["faults"]
        assert growth["late"] <= sum(growth["steps"])


def test_pages(subject, report):
    """Different pages of completed faults: an address space ends at an exec or a fork of its id."""
    with pyarrow.ipc.open_stream(subject) as stream:
        trace = stream.read_all()  # noqa: F841 (DuckDB finds it by its name)
    wanted = duckdb.sql(
        """
        with numbered as (
            select row_number() over () as number, event, pid, tid, fate, kind, address
            from trace
        ), spaces as (
            select *, count(*) filter (event = 'exec' or event = 'fork' and pid = tid)
                over (partition by pid order by number) as space
            from numbered
        )
        select kind, count(distinct (pid, space, address >> 12)) filter (fate <> 'failed')
        from spaces where event = 'fault' and fate <> 'retried' group by kind
        """
    ).fetchall()
    (table,) = [table for table in report["tables"] if table["by"] == ["kind"]]
    found = [(group["kind"], group["pages"]) for group in table["groups"]]
    assert sorted(found) == sorted(wanted)


def test_csv_has_the_same(subject, report):
    lines = tool("report", subject, "--by", "kind", "--csv").splitlines()
    assert lines[0] == "kind,faults,major,timed,fault_time_ns,longest_ns,pages"
    (table,) = [table for table in report["tables"] if table["by"] == ["kind"]]
    wanted = [
        f"{of['kind']},{of['faults']},{of['major']},{of['timed']},"
        f"{of['time_ns'] or 0},{of['longest_ns'] or 0},{of['pages']}"
        for of in table["groups"]
    ]
    assert lines[1:] == wanted
