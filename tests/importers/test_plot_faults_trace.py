# SPDX-License-Identifier: GPL-2.0-only
"""plot_faults.py reads traces, by the tool, and Parquet by pyarrow, which is installed here."""

import plot_faults as pf
import pytest
from expected import faults


def read(path):
    table, notes = pf.read(str(path))
    return *pf.arranged(table), notes


def check(found, notes, losses):
    # Attempts are no faults of their own.
    rows = [row for row in faults() if row["fate"] != "retried"]
    rows.sort(key=lambda row: row["time_ns"])
    assert found.time.tolist() == [row["time_ns"] for row in rows]
    assert found.pid.tolist() == [row["pid"] for row in rows]
    assert found.access.tolist() == [row["access"] for row in rows]
    assert ("dropped=9" in notes.get("lost", "")) == losses


def test_a_trace_has_the_panels_of_the_tool(trace, export):
    found, labels, notes = read(trace)
    check(found, notes, True)
    assert notes["command"] == "fixture"
    # As the columns say that any other program reads.
    for kind in ("csv", "parquet"):
        again, names, _ = read(export(kind, "--bands"))
        assert again.tolist() == found.tolist()
        assert names == labels


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("options", [(), ("--events",), ("--bands", "--events")])
def test_exports_are_read(export, kind, options):
    found, _, notes = read(export(kind, *options))
    check(found, notes, False)


def test_a_csv_with_comments_says_what_was_lost(export):
    found, _, notes = read(export("csv", "--comments"))
    check(found, notes, True)


@pytest.mark.parametrize("part", [4, 100, 1000])
def test_parquet_that_is_not_sound_is_refused(export, tmp_path, capsys, part):
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(export("parquet").read_bytes()[:part])
    assert pf.main([str(damaged)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
