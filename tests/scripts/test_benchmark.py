# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's own parts that need no guest: what tracers write, the arithmetic, the tables."""

from __future__ import annotations

import copy
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import figures, guest, peers, report
from benchmark.toucher import Rounds
from benchmark.tracers import ALL, FOLLOWING

# ---------------------------------------------------------------- what tracers write


def perf_file(*records: bytes) -> bytes:
    """A perf.data as far as it is looked at: the header and the data section."""
    data = b"".join(records)
    start = 104
    header = b"PERFILE2" + struct.pack("<QQQQQQ", start, 0, 0, 0, start, len(data))
    return header.ljust(start, b"\0") + data


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<IHH", kind, 0, 8 + len(body)) + body


SAMPLE = record(9, bytes(40))


def test_perf_data_counts_samples_and_losses_once():
    other = record(3, bytes(24))
    lost = record(2, struct.pack("<QQ", 1, 5))
    lost_again = record(13, struct.pack("<Q", 5))
    data = perf_file(SAMPLE, other, lost, SAMPLE, lost_again, SAMPLE) + b"features behind it"
    assert peers.perf_data(data) == peers.Counts(3, 5)
    assert peers.perf_data(perf_file()) == peers.Counts(0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PERFILE1" + bytes(200),
        perf_file(SAMPLE)[:-1],
        perf_file(struct.pack("<IHH", 9, 0, 0)),
    ],
)
def test_perf_data_that_is_none_is_refused(data: bytes):
    with pytest.raises(peers.UnreadableError):
        peers.perf_data(data)


def test_perf_trace():
    text = (
        "     0.000 ( 0.000 ms): ft-workload/159 minfault [elf_load+0x217] => 0x559be803d3e0 (?k)\n"
        "LOST 12 events!\n"
        "     0.033 ( 0.000 ms): ft-workload/159 majfault [main+0x2] => //anon@0x7f00 (d.)\n"
    )
    assert peers.perf_trace(text) == peers.Counts(2, 12)


def test_trace_cmd_adds_up_the_cpus():
    one = (
        "CPU: {}\nentries: 942\noverrun: 1\ncommit overrun: 2\nbytes: 34008\n"
        "oldest event ts:    15.550851\ndropped events: 3\nread events: 4181\n\n"
    )
    assert peers.trace_cmd(one.format(0) + one.format(1)) == peers.Counts(2 * 5123, 12)
    with pytest.raises(peers.UnreadableError):
        peers.trace_cmd("cpus=1\n")


def test_trace_pipe():
    text = (
        "CPU:0 [LOST 7 EVENTS]\n"
        " ft-workload-166 [000] d.... 15.562018: fault: (handle_mm_fault+0x0/0x1) address=0x7f "
        "flags=1\n"
    )
    assert peers.trace_pipe(text, "fault") == peers.Counts(1, 7)


def test_bpftrace():
    text = "Attaching 1 probe...\nF 7f0000001000\nLost 30 events\nF 7f0000002000\n\n"
    assert peers.bpftrace(text) == peers.Counts(2, 30)


def test_fault_tracer():
    text = (
        "fault-tracer: traced ft-workload (process 7) for 1.2 s\n"
        "fault-tracer: 49,152 faults (0 reads, 49,152 writes, 0 instruction fetches) of 1 process\n"
        "fault-tracer: lost: 1,203 (1,200 dropped, 0 overwritten, 3 missed)\n"
    )
    assert peers.fault_tracer(text) == peers.Counts(49_152, 1_203)
    with pytest.raises(peers.UnreadableError):
        peers.fault_tracer("fault-tracer: the module is not loaded\n")


def test_kernel_log():
    text = (
        "[    1.0] fault_tracer: loaded\n"
        "[    1.1] fault_tracer: fault: process 7 thread 7 address 0x7f00 write\n"
    )
    assert peers.kernel_log(text) == peers.Counts(1, None)


# ---------------------------------------------------------------- arithmetic


def test_summary():
    assert figures.summary([3, 1, 2]) == {"median": 2, "least": 1, "most": 3, "repetitions": 3}
    with pytest.raises(ValueError, match="nothing was measured"):
        figures.summary([])


def test_ratios_are_of_partners():
    assert figures.ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError):
        figures.ratios([1], [1, 2])


def test_slope_and_percent():
    assert figures.slope(110, 10, 50) == 2
    assert figures.slope(110, 10, 0) is None
    assert figures.percent_more(102, 100) == pytest.approx(2)


def test_rounds_of_all_workers():
    assert Rounds(4, 1, [[1.0, 2.0], [3.0]]).all() == [1.0, 2.0, 3.0]


def test_failures_are_found_wherever_they_are():
    assert guest.failures({"a": [{"failed": "x"}, {"b": {"failed": "y"}}], "c": 1}) == 2


def test_other_parts_are_kept_if_they_were_measured_alike(tmp_path: Path):
    output = tmp_path / "icount.json"
    assert guest.kept(output, ICOUNT) == ICOUNT
    output.write_text(json.dumps(ICOUNT))
    new = {**ICOUNT, "parts": {}, "builds": {}}
    assert guest.kept(output, new) == ICOUNT
    assert guest.kept(output, {**new, "quick": True})["parts"] == {}
    assert guest.kept(output, {**new, "machine": {**MACHINE, "kernel": "7.3"}})["parts"] == {}


# ---------------------------------------------------------------- tracers


def test_each_tracer_is_told_apart_and_shown():
    for group in (ALL, FOLLOWING):
        keys = [tracer.key for tracer in group]
        assert len(set(keys)) == len(keys)
    for tracer in {*ALL, *FOLLOWING}:
        assert tracer.title and tracer.shown()


# ---------------------------------------------------------------- tables

SUMMARY = {"median": 2.0, "least": 1.5, "most": 3.25, "repetitions": 3}
MACHINE = {
    "kernel": "7.2",
    "cpu": "QEMU",
    "cpus": 2,
    "memory_mib": 3900,
    "fault_tracer": "fault-tracer 0",
    "perf": "perf 7",
    "trace_cmd": "trace-cmd 3",
    "bpftrace": "bpftrace 0",
    "gcc": "gcc 14",
}


def fault_row(key: str, added: float) -> dict:
    return {
        "key": key,
        "title": f"tracer {key}",
        "command": f"{key} PID",
        "untraced": SUMMARY,
        "traced": SUMMARY,
        "added": added,
        "added_least": added,
        "faults": 1000,
        "events": 990,
        "lost": None,
        "bytes_per_event": 13.96,
        "recorder_per_fault": 601.0,
        "recorder_idle": 1,
    }


def grown(*added: float) -> list[dict]:
    return [
        {"value": 10**i, "untraced": 7500.0, "traced": 0.0, "added": one, "events": 1, "lost": 0}
        for i, one in enumerate(added)
    ]


WAY = {
    "dropped": 0,
    "faults": 9,
    "ns_per_fault": SUMMARY,
    "faults_per_s": SUMMARY,
    "mb_per_s": SUMMARY,
}
ICOUNT = {
    "clock": "icount",
    "quick": False,
    "machine": MACHINE,
    "builds": {"per-fault": "aa", "drain": "aa", "growth": "aa"},
    "parts": {
        "per-fault": {
            "pages": 4096,
            "rounds": 12,
            "rows": [
                fault_row("miss", 40.0),
                fault_row("record", 165.6),
                fault_row("record-kprobe", 320.0),
                {"key": "latency", "title": "latency", "command": "l", "failed": "no such mode"},
            ],
        },
        "drain": [{"by": "call", **WAY}, {"by": "mapping", **WAY}],
        "growth": {
            key: grown(300.0, 310.0, 326.0)
            for key in ("targets", "sessions_same", "sessions_others", "rings_kib", "mappings")
        },
    },
}
WORK_ROW = {
    "key": "record",
    "title": "record",
    "command": "record PID",
    "seconds": SUMMARY,
    "ratio": SUMMARY,
    "events": 12,
    "lost": 0,
    "bytes_per_event": 14.2,
    "recorder_s": SUMMARY,
}
WALL = {
    "clock": "wall",
    "quick": False,
    "machine": MACHINE,
    "builds": {"sustained": "aa"},
    "parts": {
        "cpus": {
            "rows": [
                {
                    "value": i,
                    "untraced": SUMMARY,
                    "traced": SUMMARY,
                    "added": 1.0,
                    "added_least": 1.0,
                }
                for i in (1, 2)
            ],
            "lost": 0,
            "more_percent": 1.9,
            "untraced_more_percent": 30.0,
        },
        "sustained": {
            "cpus": 2,
            "seconds": 60.2,
            "untraced_per_s": 5e4,
            "faults": 3_000_000,
            "events": 3_000_100,
            "per_s": 4e4,
            "lost": 0,
            "bytes_per_event": 4.0,
            "file_mb_per_s": 0.2,
            "recorder_share": 0.5,
            "recorder_ns_per_fault": 900.0,
        },
        "drain": [{"by": "call", **WAY}, {"by": "mapping", **WAY}],
        "beyond": {
            "command": "record",
            "faults": 100,
            "account": {"hits": 100, "recorded": 60, "dropped": 40},
            "recorded": 60,
            "exact": True,
            "verify": ["40 faults of CPU 0 were lost"],
            "verify_status": 1,
        },
        "wall-time": {
            "compilation": {
                "title": "compilation",
                "untraced": SUMMARY,
                "rows": [
                    WORK_ROW,
                    {
                        **WORK_ROW,
                        "key": "perf-faults",
                        "recorder_s": {key: 0.99 * value for key, value in SUMMARY.items()},
                    },
                ],
            },
        },
    },
}


def test_goals():
    reported = {goal.what: goal for goal in report.goals(ICOUNT["parts"], WALL["parts"])}
    met = {what: goal.met for what, goal in reported.items()}
    assert met == {
        "target miss": True,
        "record, with side-band and follow": False,
        "likewise, by the kprobe": True,
        "latency mode": None,
        "1 to 100 targets": False,
        "a fault on 2 CPUs": True,
        "2 CPUs that do nothing but fault, 60 s": True,
        "recorder": False,
        "file, addresses at random": True,
        "file, compilation": False,
        "recorder's CPU, compilation": False,
    }
    assert reported["1 to 100 targets"].reached == "26 instructions"
    assert reported["latency mode"].reached == ""


def test_a_loss_misses_the_goal():
    wall = copy.deepcopy(WALL)
    wall["parts"]["sustained"]["lost"] = 1
    reported = {goal.what: goal.met for goal in report.goals({}, wall["parts"])}
    assert reported["2 CPUs that do nothing but fault, 60 s"] is False


def test_tables_are_aligned_in_both_forms():
    table = report.Table(("name", "n"), [("a", "1"), ("long name", "1,234")])
    assert list(table.lines(markdown=True)) == [
        "| name      |     n |",
        "| --------- | ----: |",
        "| a         |     1 |",
        "| long name | 1,234 |",
    ]
    assert list(table.lines(markdown=False)) == [
        "name           n",
        "---------  -----",
        "a              1",
        "long name  1,234",
    ]


def written(folder: Path, icount: dict, wall: dict) -> str:
    """The document that the program writes."""
    (folder / "icount.json").write_text(json.dumps(icount))
    (folder / "wall.json").write_text(json.dumps(wall))
    document = folder / "benchmarks.md"
    words = [str(folder), "--qemu", "QEMU 10", "--markdown", str(document)]
    subprocess.run([sys.executable, "-B", report.__file__, *words], check=True, capture_output=True)
    combined = json.loads((folder / "benchmarks.json").read_text())
    assert combined["icount"] == icount and combined["wall"] == wall
    assert "| ---" not in (folder / "benchmarks.txt").read_text()
    return document.read_text()


def test_the_document_has_every_part_and_what_failed(tmp_path: Path):
    text = written(tmp_path, ICOUNT, WALL)
    for title in ("Goals", "Instructions added", "real work", "Sustained", "Emptying", "CPUs"):
        assert title in text
    assert "latency: no such mode" in text
    assert "record PID" in text
    assert "40 faults of CPU 0 were lost" in text
    assert "--quick: the sizes" not in text
    assert "later build" not in text
    wall = {**WALL, "builds": {"sustained": "bb"}}
    assert "later build" in written(tmp_path, ICOUNT, wall)


def test_the_document_says_that_it_was_made_quickly(tmp_path: Path):
    assert "--quick: the sizes" in written(tmp_path, {**ICOUNT, "quick": True}, WALL)


def test_a_part_that_failed_is_reported(tmp_path: Path):
    wall = copy.deepcopy(WALL)
    wall["parts"]["sustained"] = {"failed": "RuntimeError: ft-workload has ended"}
    text = written(tmp_path, ICOUNT, wall)
    assert "sustained could not be measured: RuntimeError: ft-workload has ended" in text
    assert "### Sustained" not in text


def test_a_part_that_was_not_measured_is_left_out(tmp_path: Path):
    icount = {**ICOUNT, "parts": {}}
    wall = {**WALL, "parts": {}}
    text = written(tmp_path, icount, wall)
    assert "rate recorded" not in text and "## Goals" in text
    assert "Not measured with this build yet: `scripts/bench --part per-fault`" in text


@pytest.mark.parametrize("clock", ["icount", "wall"])
def test_one_boot_alone_is_reported(tmp_path: Path, clock: str):
    boot = {"icount": ICOUNT, "wall": WALL}[clock]
    (tmp_path / f"{clock}.json").write_text(json.dumps(boot))
    words = [sys.executable, "-B", report.__file__, str(tmp_path), "--qemu", "QEMU 10"]
    subprocess.run(words, check=True, capture_output=True)
    text = (tmp_path / "benchmarks.txt").read_text()
    assert ("rate recorded" in text) == (clock == "wall")
    assert f"scripts/bench --part {'per-fault' if clock == 'wall' else 'sustained'}" in text


def test_without_figures_nothing_is_written(tmp_path: Path):
    words = [sys.executable, "-B", report.__file__, str(tmp_path), "--qemu", "QEMU 10"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "there are no figures in" in done.stderr
    assert not list(tmp_path.iterdir())
