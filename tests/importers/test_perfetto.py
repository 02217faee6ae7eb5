# SPDX-License-Identifier: GPL-2.0-only
"""Exports, opened by Perfetto's trace processor."""

import os

import pytest
from expected import FAULTS, NUMBERS, PID, callers, completed, fault, symbol
from trace_processor import LoadedTrace

# The fixture's time behind its faults, in nanoseconds.
BEHIND = FAULTS * 1000


@pytest.fixture(name="timeline", scope="module")
def a_timeline(export):
    return LoadedTrace(export("perfetto"))


def check_import(loaded, kind):
    """Checks that the file was taken for what it is, and nothing of it refused."""
    assert loaded.query("SELECT str_value FROM metadata WHERE name = 'trace_type'") == [(kind,)]
    bad = "SELECT name, value FROM stats WHERE value != 0 AND severity != 'info'"
    assert loaded.query(bad) == []


def test_the_timeline_is_imported_without_errors(timeline):
    check_import(timeline, "json")
    name = "SELECT name FROM stats WHERE name = 'json_display_time_unit' AND value = 1"
    assert len(timeline.query(name)) == 1, "nanoseconds"


def expected_arguments(number):
    """Of a fault, but for its instruction pointer."""
    columns = fault(number)
    name, offset = symbol(number)
    arguments = {
        "access": columns["access"],
        "callers": callers(number) and " < ".join(callers(number)),
        "address": f"{columns['address']:#x}",
        "cpu": columns["cpu"],
        "fate": columns["fate"],
        "file_offset": columns["file_offset"],
        "mapping": columns["mapping"],
        "object": columns["object"],
        "symbol": name and f"{name}+{offset:#x}",
    }
    return {name: value for name, value in arguments.items() if value is not None}


def test_each_fault_is_on_its_threads_track(timeline):
    rows = timeline.query(
        "SELECT ts, dur, slice.name, category, depth, tid, thread.name AS thread, pid, "
        "process.name AS process FROM slice JOIN thread_track ON thread_track.id = track_id "
        "JOIN thread USING (utid) JOIN process USING (upid) "
        "WHERE category != 'gap' ORDER BY ts"
    )
    columns = ["kind", "fate", "tid", "thread", "pid", "process"]
    assert [(ts, dur, name, cat, tid, *names) for ts, dur, name, cat, _, tid, *names in rows] == [
        (row["time_ns"], row["duration_ns"] or 0, *(row[column] for column in columns))
        for row in map(fault, NUMBERS)
    ]
    assert {depth for _, _, _, _, depth, *_ in rows} == {0}


def test_each_fault_has_its_arguments(timeline):
    arguments = {number: {} for number in NUMBERS}
    for ts, key, text, number in timeline.query(
        "SELECT ts, key, string_value, int_value FROM slice JOIN args USING (arg_set_id) "
        "JOIN thread_track ON thread_track.id = track_id WHERE category != 'gap'"
    ):
        arguments[ts // 1000][key.removeprefix("args.")] = number if text is None else text
    for number in NUMBERS:
        pointer = arguments[number].pop("ip")
        assert (pointer == "0xffffffffffffff") == (symbol(number) == (None, None))
        assert arguments[number] == expected_arguments(number)


def test_rates_are_counters_of_the_process(timeline):
    rates = timeline.query(
        "SELECT track.name, pid, ts, value FROM counter "
        "JOIN process_counter_track AS track ON track.id = track_id "
        "JOIN process USING (upid) ORDER BY ts, track.name"
    )
    fates = [fault(number)["fate"] for number in completed()]
    counts = {
        "faults/s major": fates.count("major"),
        "faults/s minor": fates.count("minor"),
        "faults/s other": fates.count("failed") + fates.count("unknown"),
    }
    # All are within the first 10 ms.
    expected = [(name, PID, 0, count * 100) for name, count in counts.items()]
    assert rates == expected + [(name, PID, 10_000_000, 0) for name in counts]


def test_what_is_no_fault_is_shown_apart(timeline):
    arguments = ["program", "since_ns", "faults", "faults_at_most"]
    values = ", ".join(f"extract_arg(arg_set_id, 'args.{name}') AS {name}" for name in arguments)
    rows = timeline.query(
        f"SELECT ts, dur, slice.name, track.type, {values} "
        "FROM slice JOIN track ON track.id = track_id "
        "WHERE category = 'gap' OR track.type != 'thread_execution' ORDER BY ts"
    )
    gap = "gap: at least 3 faults are not in the trace"
    lost = "legacy_async_global_slice"
    assert rows == [
        (0, 0, "exec", "chrome_process_instant", "/bin/fixture", None, None, None),
        (BEHIND + 2, 0, gap, "thread_execution", None, BEHIND + 1, None, None),
        (BEHIND + 3, 1, "faults dropped on CPU 1", lost, None, None, 9, None),
        (BEHIND + 5, 1, "faults overwritten on CPU 1", lost, None, None, None, 9),
    ]


def test_perf_script_is_imported(export):
    loaded = LoadedTrace(export("perf-script"))
    check_import(loaded, "perf_text")
    samples = loaded.query(
        "SELECT ts, tid, thread.name AS thread, pid, frame.name AS symbol, mapping.name AS object "
        "FROM cpu_profile_stack_sample AS sample "
        "JOIN thread USING (utid) JOIN process USING (upid) "
        "JOIN stack_profile_callsite AS callsite ON callsite.id = callsite_id "
        "JOIN stack_profile_frame AS frame ON frame.id = frame_id "
        "JOIN stack_profile_mapping AS mapping ON mapping.id = frame.mapping ORDER BY ts"
    )
    unknown = "[unknown]"
    # Perfetto reads microseconds as seconds of floating point, so that a nanosecond may be missing.
    assert [(round(ts, -1), *rest) for ts, *rest in samples] == [
        (
            row["time_ns"],
            row["tid"],
            row["thread"],
            row["pid"],
            symbol(number)[0] or unknown,
            os.environ["FIXTURE"] if symbol(number)[0] else unknown,
        )
        for number, row in ((number, fault(number)) for number in completed())
    ]
