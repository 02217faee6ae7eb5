# SPDX-License-Identifier: GPL-2.0-only
"""docs/fleet.md: the recordings of several machines, read as one table."""

import os
import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs/fleet.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```$", DOCUMENT, re.M | re.S)
TITLES = [
    "views",
    "mappings",
    "machines",
    "releases",
    "places",
    "cold files",
    "code",
    "losses",
]


@pytest.fixture(name="fleet", scope="module")
def the_fleet():
    """The folder of tests/importers/record-fleet."""
    return Path(os.environ["FLEET"])


@pytest.fixture(name="rows", scope="module")
def the_rows(fleet):
    """What the document's queries say, each a list of dictionaries."""
    assert len(QUERIES) == len(TITLES), "the test knows each query of the document by its title"
    before = os.getcwd()
    os.chdir(fleet.parent)
    try:
        database = duckdb.connect()
        found = {}
        for title, query in zip(TITLES, QUERIES):
            table = database.execute(query)
            if title != "views":
                found[title] = table.df().to_dict("records")
        found["all"] = database.execute("select * from rows").df().to_dict("records")
        return found
    finally:
        os.chdir(before)


def test_each_machine_has_its_folders(fleet):
    hosts = {path.name for path in fleet.iterdir()}
    assert hosts == {"host=web-1", "host=web-2", "host=db-1"}, "and nothing is left in _recording"
    for path in fleet.rglob("*.parquet"):
        host, date, name = path.relative_to(fleet).parts
        assert re.fullmatch(r"date=\d{4}-\d\d-\d\d", date)
        assert re.match(host.removeprefix("host=") + r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", name)
    assert len(list(fleet.glob("host=web-1/*/*.parquet"))) > 2


def test_nothing_is_lost_between_files(rows):
    assert [row["host"] for row in rows["losses"]] == ["db-1", "web-1", "web-2"]
    for row in rows["losses"]:
        assert row["hits"] == row["recorded"] == row["in_the_tables"] > 500, row
        assert row["lost"] == 0


def test_threads_balance_over_files(rows):
    """Each thread's counters rose by as many faults as stand in the files of its machine."""
    threads = {}
    for row in rows["all"]:
        if pd.isna(row["tid"]):
            continue
        key = row["host"], row["tid"]
        began, ended, found = threads.get(key, (None, None, 0))
        if row["event"] in ("fork", "present", "exec") and began is None:
            began = row["min_flt"] + row["maj_flt"]
        elif row["event"] == "exit":
            ended = row["min_flt"] + row["maj_flt"]
        elif row["event"] == "fault" and row["fate"] in ("minor", "major"):
            found += 1
        threads[key] = began, ended, found
    assert len(threads) > 9
    for key, (began, ended, found) in threads.items():
        assert ended - began == found, key


def test_the_new_release_faults_more(rows):
    old, new = rows["releases"]
    assert (old["release"], old["processes"]) == ("shop-1.0", 3)
    assert (new["release"], new["processes"]) == ("shop-1.1", 3)
    assert 500 < old["most"] < 1000
    assert new["faults_of_a_process"] > 2000
    worst = rows["places"][0]
    assert worst["kind"] == "zero-fill"
    assert worst["after"] - worst["before"] > 4000


def test_cold_files_are_those_of_the_machine_that_was_cold(rows):
    assert rows["cold files"]
    for row in rows["cold files"]:
        assert row["hosts"] == 1
        assert row["pages"] <= row["major"]
    assert any("python3" in row["program"] for row in rows["cold files"])


def test_mappings_machines_and_code_are_told(rows):
    total = sum(row["event"] == "fault" and row["fate"] != "retried" for row in rows["all"])
    assert rows["mappings"][0]["mapping"] == "[anon]"
    assert rows["mappings"][0]["hosts"] == 3
    assert rows["mappings"][0]["faults"] <= total
    assert {row["host"] for row in rows["machines"]} <= {"web-1", "web-2", "db-1"}
    assert any(row["hosts"] > 1 for row in rows["code"])


def test_arrow_reads_the_folders_as_one_table(fleet, rows):
    """As DataFusion and Spark do: the columns of all files are the same."""
    data = pyarrow.dataset.dataset(fleet, partitioning="hive")
    # Spark refuses nanoseconds.
    assert data.schema.field("time").type == pyarrow.timestamp("us", "UTC")
    assert {"host", "date"} < set(data.schema.names)
    assert data.count_rows() == len(rows["all"])
