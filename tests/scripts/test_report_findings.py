# SPDX-License-Identifier: GPL-2.0-only
"""Tests of fault_trends.py (each trend shown and not shown) and of report_findings.py."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

import fault_trends as ft
import plot_faults as pf
import report_findings as rf

PAGE, KIB, MIB = pf.PAGE, pf.KIB, pf.MIB
HEAP = 0x5555_6000_0000
LIBRARY = 0x7F00_0000_0000
STACK = 0x7FFD_0000_0000
NO_LOSS = "# lost: dropped=0 overwritten=0 missed=0"
DOCS = Path(rf.__file__).resolve().parent.parent / "docs"
RANDOM = np.random.default_rng(1)


def csv(rows, *, lost=NO_LOSS, command="program --option=1") -> str:
    """Write a recording; a row is (seconds, pid, address, access, flags[, tid])."""
    lines = [f"# command: {command}", pf.HEADER]
    for row in sorted(rows, key=lambda row: row[0]):
        time, pid, address, access, flags, tid = (*row, row[1])[:6]
        lines.append(f"{int(time * 1e9)},0,{pid},{tid},{int(address):#x},0x1,{access},{flags}")
    return "\n".join([*lines, *([lost] if lost else [])]) + "\n"


def trace(rows) -> ft.Trace:
    """Load a trace made of rows."""
    return ft.Trace(pf.load(io.StringIO(csv(rows)), "test.csv"))


def execs(time, pid):
    """Make the first fault of an exec."""
    return (time, pid, pf.EXEC_PAGE + 0xFF8, "w", "remote|gup")


def touch(times, addresses, access="w", flags="user|vma-lock", pid=1):
    """Make faults on the addresses at the times."""
    return [(t, pid, a, access, flags) for t, a in zip(times, addresses, strict=True)]


def pages(count, start=LIBRARY, step=PAGE):
    """Make addresses in order."""
    return [start + n * step for n in range(count)]


def shuffled(count, start=LIBRARY):
    """Make the addresses of pages in random order, no two neighbours in succession."""
    return [start + int(n) * PAGE for n in (np.arange(count) * 37 % count)]


def programs(costs, times=None, flags="file|user", access="r"):
    """Make programs that take so many faults each, one for each second or at the times."""
    rows = []
    for n, cost in enumerate(costs):
        start = n if times is None else times[n]
        rows.append(execs(start, 10 + n))
        rows += touch(start + np.arange(1, cost) * 1e-4, pages(cost - 1), access, flags, 10 + n)
    return rows


def decaying(count, span=10.0):
    """Make times that lie the further apart the later they are."""
    return 0.1 * span + 0.8 * span * (np.arange(count) / count) ** 3


FRAME = touch([0, 10], [STACK, STACK + PAGE])  # a run of ten seconds
EVEN = np.linspace(0.1, 9.9, 400)

# name of the detector: (rows that show the trend, rows that all but show it)
CASES = {
    "find_start_up_burst": (
        [execs(0, 1)]
        + touch(np.arange(100) * 1e-3, pages(100), "r", "file|user")
        + touch(np.linspace(1, 10, 20), pages(20, HEAP)),
        [execs(0, 1)] + touch(np.linspace(0, 10, 120), pages(120), "r", "file|user"),
    ),
    "find_start_up_floor": (programs([30] * 25), programs([30] * 19)),
    "find_exec_storm": (
        programs([10] * 40, [*np.linspace(0, 1, 30), *np.linspace(10, 100, 10)]),
        programs([10] * 40, np.linspace(0, 100, 40)),
    ),
    "find_dominant_programs": (programs([5] * 30 + [500]), programs([20] * 31)),
    "find_sustained": (
        touch(EVEN, pages(400)),
        touch([*EVEN[:240], *EVEN[:160]], pages(400)) + FRAME,
    ),
    "find_silence": (
        touch(np.linspace(0, 1, 100), pages(100)) + FRAME,
        touch(np.linspace(0, 10, 100), pages(100)),
    ),
    "find_exit_burst": (
        touch(np.linspace(0, 1, 100), pages(100)) + touch([9.99] * 20, pages(20, HEAP)) + FRAME,
        touch(np.linspace(0, 1, 100), pages(100)) + touch([9.5] * 20, pages(20, HEAP)) + FRAME,
    ),
    "find_text_walk": (
        touch(EVEN[:40], pages(40, step=64 * KIB), "x", "file|user"),
        touch(EVEN[:40], pages(40), "x", "file|user"),
    ),
    "find_late_text": (
        [execs(0, 1)]
        + touch(np.linspace(0, 4, 200), pages(200), "x", "file|user")
        + touch(np.linspace(6, 10, 100), pages(100, HEAP), "x", "file|user"),
        [execs(0, 1)]
        + touch(np.linspace(0, 4, 290), pages(290), "x", "file|user")
        + touch(np.linspace(6, 10, 10), pages(10, HEAP), "x", "file|user"),
    ),
    "find_relocations": (
        touch(EVEN[:30], pages(30), "w", "present|file|user"),
        touch(EVEN[:30], pages(30), "w", "present|file|shared|user"),
    ),
    "find_fork_copies": (
        [execs(0, 1)]
        + [
            row
            for pid in range(2, 14)
            for row in touch([pid] * 10, pages(10), "w", "present|user", pid)
        ],
        [execs(0, 1)]
        + [row for pid in range(2, 14) for row in touch([pid] * 10, pages(10), "w", "user", pid)],
    ),
    "find_cheap_forks": (
        [execs(0, 1)]
        + [
            row
            for pid in range(2, 27)
            for row in [*touch([pid], [STACK], pid=pid), execs(pid + 0.5, pid)]
        ],
        [execs(0, 1)]
        + [
            row
            for pid in range(2, 27)
            for row in [*touch([pid] * 4, pages(4), pid=pid), execs(pid + 0.5, pid)]
        ],
    ),
    "find_heap_ramp": (
        touch(EVEN[:100], pages(100, HEAP)),
        touch(EVEN[:100], shuffled(100, HEAP)),
    ),
    "find_buffer": (touch(EVEN[:64], pages(64)), touch(EVEN[:63], pages(63))),
    "find_huge_steps": (
        touch(EVEN[:30], pages(30, step=2 * MIB)),
        touch(EVEN[:60], pages(60, step=MIB)),
    ),
    "find_random_file_walk": (
        touch(decaying(400), shuffled(400), "r", "file|shared|user") + FRAME,
        touch(decaying(400), pages(400), "r", "file|shared|user") + FRAME,
    ),
    "find_random_table": (
        touch(decaying(64), shuffled(64)) + FRAME,
        touch(decaying(64), pages(64)) + FRAME,
    ),
    "find_metronome": (
        touch(np.arange(20) / 2 + 0.5, pages(20, HEAP)),
        touch(np.cumsum([0.1, 0.9] * 10), pages(20, HEAP)),
    ),
    "find_read_then_write": (
        touch(EVEN[:30], pages(30), "r") + touch(EVEN[30:60], pages(30), "w", "present|user"),
        touch(EVEN[30:60], pages(30), "r") + touch(EVEN[:30], pages(30), "w", "present|user"),
    ),
    "find_kernel_writes": (
        touch(EVEN[:150], pages(150), "w", ""),
        touch(EVEN[:150], pages(150), "w", "user"),
    ),
    "find_repeats": (
        touch(EVEN[:60], pages(60), "r")
        + touch(EVEN[:60] + 1e-4, pages(60), "r", "user"),
        touch(EVEN[:60], pages(60), "r")
        + touch(EVEN[:60] + 1e-4, pages(60, HEAP), "r", "user"),
    ),
}


def test_every_detector_has_a_case():
    """No detector reaches the report untested."""
    assert sorted(CASES) == sorted(detect.__name__ for detect in ft.DETECTORS)


@pytest.mark.parametrize("name", CASES)
def test_detector_finds_its_trend(name):
    """The trend is found, and its text is whole."""
    finding = getattr(ft, name)(trace(CASES[name][0]))
    assert finding is not None
    assert finding.weight >= 0
    for text in (finding.name, finding.text, finding.place, finding.advice):
        assert text and "nan" not in text and "{" not in text and "  " not in text


@pytest.mark.parametrize("name", CASES)
def test_detector_finds_nothing_in_what_only_resembles_it(name):
    """The trend is not claimed where its criterion is not met."""
    assert getattr(ft, name)(trace(CASES[name][1])) is None


@pytest.mark.parametrize("name", CASES)
def test_detector_takes_one_fault(name):
    """A trace of one fault shows nothing, and breaks nothing."""
    assert getattr(ft, name)(trace(touch([0], [HEAP]))) is None


SHARED_OUT = [
    "find_start_up_burst",
    "find_start_up_floor",
    "find_dominant_programs",
    "find_exit_burst",
    "find_text_walk",
    "find_late_text",
    "find_relocations",
    "find_fork_copies",
    "find_heap_ramp",
    "find_buffer",
    "find_random_file_walk",
    "find_random_table",
    "find_read_then_write",
    "find_kernel_writes",
    "find_repeats",
]


@pytest.mark.parametrize("name", SHARED_OUT)
def test_detector_needs_a_share_of_the_faults(name):
    """What is there but does not matter among 20,000 other faults is no finding."""
    rows = CASES[name][0]
    last = max(row[0] for row in rows)
    count = 20_000
    others = touch(np.linspace(0, last, count), pages(count, 0x7E << 40), "r", "file|user", 999)
    assert getattr(ft, name)(trace(rows + others)) is None


TOO_FEW = {
    "find_start_up_burst": [
        execs(0, 1),
        *touch(np.arange(40) * 1e-3, pages(40), "r", "file|user"),
        *touch([5, 10], pages(2)),
    ],
    "find_exit_burst": touch(np.linspace(0, 1, 100), pages(100)) + touch([10] * 14, pages(14)),
    "find_text_walk": touch(EVEN[:29], pages(29, step=64 * KIB), "x", "file|user"),
    "find_relocations": touch(EVEN[:19], pages(19), "w", "file|user"),
    "find_heap_ramp": touch(EVEN[:63], pages(63, HEAP)),
    "find_read_then_write": [
        *touch(EVEN[:19], pages(19), "r"),
        *touch(EVEN[30:49], pages(19), "w", "present|user"),
    ],
    "find_kernel_writes": touch(EVEN[:99], pages(99), "w", ""),
    "find_repeats": [
        *touch(EVEN[:49], pages(49), "r"),
        *touch(EVEN[:49] + 1e-4, pages(49), "r", "user"),
    ],
}


@pytest.mark.parametrize("name", TOO_FEW)
def test_detector_needs_a_number_of_faults(name):
    """A handful is no trend, however large its share."""
    assert getattr(ft, name)(trace(TOO_FEW[name])) is None


def test_start_up_of_a_short_program_in_a_long_run_is_no_burst():
    """Only programs that live for a tenth of the run have a start to tell from the rest."""
    rows = CASES["find_start_up_burst"][0]
    assert ft.find_start_up_burst(trace(rows + touch([150], [HEAP], pid=7))) is None


def test_random_table_needs_time_and_disorder():
    """A table filled at random within a moment is a burst, not a trickle."""
    quick = [(t / 10 + 3, *rest) for t, *rest in touch(decaying(64), shuffled(64))]
    assert ft.find_random_table(trace(quick + FRAME)) is None


def test_random_table_is_seen_beside_a_buffer():
    """A buffer next to it that is written from end to end does not hide it."""
    buffer = touch(np.linspace(0.6, 0.8, 200), pages(200, LIBRARY + 64 * PAGE))
    rows = CASES["find_random_table"][0] + buffer
    assert "64 pages of an area of 256 KiB" in ft.find_random_table(trace(rows)).text


# ---------------------------------------------------------------- the numbers in the findings


def test_numbers_of_the_buffer():
    """Size, share and later faults are the trace's."""
    rows = touch(EVEN[:256], pages(256)) + touch([9], [STACK])
    found = ft.find_buffer(trace(rows))
    assert found.name == "One buffer touched once"
    assert "1 buffer of 1 MiB is written" in found.text
    assert "256 faults, 99.6 % of all" in found.text
    assert "Not one of their pages faults again" in found.text
    again = ft.find_buffer(trace(rows + touch([9.5] * 3, pages(3), "w", "present|user")))
    assert "3 of their pages fault again later" in again.text


def test_numbers_of_the_random_walk():
    """Reads and writes are counted apart, and windows by 64 KiB."""
    reads = touch(decaying(400)[::2], shuffled(400)[::2], "r", "file|shared|user")
    writes = touch(decaying(400)[1::2], shuffled(400)[1::2], "w", "file|shared|user")
    text = ft.find_random_file_walk(trace(reads + writes + FRAME)).text
    assert "400 faults" in text and "200 reads and 200 writes" in text
    assert "25 of 25 windows of 64 KiB" in text
    assert "8.0 per window" in text and "fades" in text


def test_numbers_of_the_huge_steps():
    """The memory brought and the faults spared are computed from the steps."""
    text = ft.find_huge_steps(trace(CASES["find_huge_steps"][0])).text
    assert "30 faults bring 60 MiB" in text
    assert "up to 30 adjacent blocks" in text and "15,360 faults" in text


def test_numbers_of_zero_pages_count_each_page_once():
    """A page written twice after its read is one page; each costs two faults."""
    rows = CASES["find_read_then_write"][0] + touch([9], [LIBRARY], "w", "present|user")
    text = ft.find_read_then_write(trace(rows)).text
    assert "30 anonymous pages fault twice" in text and "60 faults" in text


def test_numbers_of_the_exec_storm():
    """The faults counted are those within the interval."""
    rows = CASES["find_exec_storm"][0]
    text = ft.find_exec_storm(trace(rows)).text
    times = np.linspace(0, 1, 30)
    first = min(range(10), key=lambda n: round(times[n + 20] - times[n], 9))
    inside = [row for row in rows if times[first] <= row[0] <= times[first + 20]]
    assert "Half of the 40 execs" in text
    assert f"holds {len(inside)} faults" in text


def test_numbers_of_the_exit_burst():
    """First touches and fetches of the end are counted apart."""
    rows = CASES["find_exit_burst"][0] + touch([9.99] * 5, pages(5, HEAP), "w", "present|user")
    rows += touch([9.99] * 3, pages(3), "x", "file|user")
    text = ft.find_exit_burst(trace(rows)).text
    # The frame's last fault is a first touch of the end too.
    assert "29 faults" in text
    assert "21 first touches" in text and "3 instruction fetches" in text


def test_numbers_of_the_forks():
    """Forks are counted whose child goes on to exec, and their faults before it."""
    rows = CASES["find_cheap_forks"][0] + touch([30] * 5, pages(5), pid=90)
    # Neither the fork that ends without an exec nor the process that execs twice is counted.
    rows += [execs(31, 91), *touch([32], [HEAP], pid=91), execs(33, 91)]
    text = ft.find_cheap_forks(trace(rows)).text
    assert "Of 25 forked processes that go on to exec, 25 take at most 3 faults" in text
    assert "are 30 faults" in text


def test_first_process_was_not_forked_within_the_trace():
    """What the traced command does before its own exec is no child's."""
    rows = CASES["find_fork_copies"][0]
    begun = [(0.5, 99, HEAP, "w", "present|user"), *[row for row in rows if row[0] > 0]]
    text = ft.find_fork_copies(trace(begun)).text
    assert text.startswith("12 forked processes take 120 faults before an exec; 120 of them")


def test_kernel_writes_to_the_stack_are_not_counted():
    """exec itself writes the new stack; no buffer is meant there."""
    rows = touch(EVEN[:150], pages(150, STACK), "w", "")
    assert ft.find_kernel_writes(trace(rows)) is None


def test_repeats_by_waiting_and_by_lock_are_told_apart():
    """An attempt marked `tried` waited; one without the mapping's lock gave that up."""
    rows = CASES["find_repeats"][0] + touch(EVEN[:60] + 2e-4, pages(60), "r", "tried|user")
    text = ft.find_repeats(trace(rows)).text
    assert "120 entries" in text and "60 waited" in text and "60 gave up" in text


def test_lives_split_at_exec_and_at_fork():
    """A forked process has a life before its exec, and one after it."""
    rows = [execs(0, 1), *touch([1], [HEAP]), *touch([2], [HEAP], pid=2), execs(3, 2)]
    lives = trace(rows).lives
    assert [(life.pid, life.has_exec, life.faults) for life in lives] == [
        (1, True, 2),
        (2, False, 1),
        (2, True, 1),
    ]


# ---------------------------------------------------------------- places


def test_place_names_colour_band_and_seconds():
    """A place is what the picture shows at that spot."""
    rows = touch([0, 10], [HEAP, HEAP + PAGE], "r") + touch([4, 4.5, 5], pages(3), "x")
    made = trace(rows)
    assert ft.place_of(made, made.execute) == (
        f"green, band “mmap, libraries” at `{LIBRARY:#x}`, from 4.0 to 5.0 s"
    )
    labels = {tick for band in made.panel.bands for tick in pf.band_ticks(band, 100)}
    assert LIBRARY in labels


def test_moment_is_not_called_an_interval():
    """What is too short to be seen as an interval is given as a moment."""
    assert ft.interval(1, 1.01, 10) == "at 1.0 s"
    assert ft.interval(1, 2, 10) == "from 1.0 to 2.0 s"
    assert ft.interval(0.1, 0.2, 0.5) == "from 100 to 200 ms"


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "0 %"), (1, "100 %"), (0.9999, "99.9 %"), (0.0004, "< 0.1 %"), (0.034, "3.4 %")],
)
def test_percentages_do_not_round_to_all_or_nothing(part, text):
    """What is not all is not 100 %; what is not nothing is not 0 %."""
    assert ft.percent(part) == text


# ---------------------------------------------------------------- the report


def random_trace() -> ft.Trace:
    """Make a trace of all combinations of flags."""
    sets = ["", "user", "file|user", "file|shared", "remote|gup", "gup", "present|tried", "shared"]
    return trace(
        [
            (n / 100, 1 + n % 3, HEAP + n * PAGE, "rwx"[n % 3], sets[RANDOM.integers(len(sets))])
            for n in range(500)
        ]
    )


def test_each_partition_adds_up_to_all_faults():
    """Every fault is in one row of each part of the table, and in one only."""
    made = random_trace()
    for title, rows in rf.partitions(made):
        assert sum(count for _, count in rows) == made.total, title


def write_traces(folder: Path, rows, **options) -> None:
    """Write the traces of all workloads and the machine, as the guest leaves them."""
    for workload in rf.WORKLOADS:
        (folder / f"{workload.name}.csv").write_text(csv(rows, **options), encoding="utf-8")
    (folder / "machine.txt").write_text(
        "kernel: 7.2.0\ncpus: 2\ncpu: QEMU TCG CPU\nmemory_kib: 4194304\nhuge_pages: always\n"
        "gcc: 14\nsysbench: 1\niperf3: 3\n",
        encoding="utf-8",
    )


def make_report(tmp_path: Path, rows, figures=True, **options) -> int:
    """Run the command on traces made of rows."""
    write_traces(tmp_path, rows, **options)
    (tmp_path / "figures").mkdir()
    for workload in rf.WORKLOADS if figures else ():
        (tmp_path / "figures" / f"{workload.name}.png").touch()
    return rf.main([str(tmp_path), "-o", str(tmp_path / "report.md")])


TRENDS = CASES["find_start_up_burst"][0] + CASES["find_buffer"][0]


def table_sums(markdown: str) -> list[tuple[int, dict[str, int]]]:
    """Read the tables of faults: all, and the sum of each part."""
    found = []
    part = ""
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 4 or not cells[2].replace(",", "").isdigit():
            continue
        count = int(cells[2].replace(",", ""))
        if cells[0] == "All":
            found.append((count, {}))
            continue
        part = cells[0] or part
        found[-1][1][part] = found[-1][1].get(part, 0) + count
    return found


def check_report(markdown: str) -> None:
    """Check what holds in every report."""
    tables = table_sums(markdown)
    assert len(tables) == len(rf.WORKLOADS)
    for total, sums in tables:
        assert {sums[part] for part in ("Access", "Memory", "Made by")} == {total}
    claimed = re.search(r"([\d,]+) faults, 0 lost", markdown)
    assert int(claimed[1].replace(",", "")) == sum(total for total, _ in tables)
    for workload in rf.WORKLOADS:
        section = markdown.split(f"## {workload.title}\n")[1].split("\n## ")[0]
        assert section.count("*In the picture:*") >= rf.LEAST_FINDINGS
        assert f"](figures/{workload.name}.png)" in section


def test_report_is_written_and_consistent(tmp_path):
    """The report has every workload, tables that add up, and pictures that exist."""
    assert make_report(tmp_path, TRENDS) == 0
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    check_report(markdown)
    assert rf.missing_figures(markdown, tmp_path) == []
    assert "program --option=1" in markdown


def test_report_without_a_picture_is_refused(tmp_path, capsys):
    """A link that leads nowhere is an error, and no report is left."""
    assert make_report(tmp_path, TRENDS, figures=False) == 1
    assert "figures/iperf3.png" in capsys.readouterr().err
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("# lost: dropped=1 overwritten=0 missed=0", "RING_KIB"),
        ("# lost: dropped=0 overwritten=2 missed=0", "RING_KIB"),
        ("# lost: dropped=0 overwritten=0 missed=3", "RING_KIB"),
        ("", "does not say how many faults were lost"),
    ],
)
def test_losses_are_refused_with_advice(tmp_path, capsys, lost, message):
    """A report stands on all faults or is not written."""
    assert make_report(tmp_path, TRENDS, lost=lost) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.md").exists()


def test_too_few_findings_are_refused(tmp_path, capsys):
    """A workload in which nothing is seen calls for a look at the detectors."""
    assert make_report(tmp_path, touch([0, 1, 2], pages(3))) == 1
    assert "look at its picture and at the detectors" in capsys.readouterr().err


def test_missing_trace_is_named(tmp_path, capsys):
    """A workload that left no trace is an error that names it."""
    write_traces(tmp_path, TRENDS)
    (tmp_path / "iperf3.csv").unlink()
    assert rf.main([str(tmp_path), "-o", str(tmp_path / "report.md")]) == 1
    assert "iperf3.csv" in capsys.readouterr().err


def test_same_advice_is_given_once(tmp_path):
    """Where a trend returns, the text points to its first place."""
    assert make_report(tmp_path, TRENDS) == 0
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown.count("static or prelinked binary") == 1
    assert f"as under “{rf.WORKLOADS[0].title}”" in markdown


def test_course_tells_start_from_throughout():
    """Who faults only at the start is told from who never stops."""
    start = touch(np.linspace(0, 1, 100), pages(100)) + FRAME
    end = touch([9.99] * 40, pages(40, HEAP))
    assert rf.course(trace(start))[0] == "start"
    assert rf.course(trace(start + end))[0] == "ends"
    assert rf.course(trace(touch(EVEN, pages(400))))[0] == "throughout"
    assert rf.course(trace(start + touch(np.linspace(2, 6, 60), pages(60))))[0] == "fading"


def test_committed_report_is_consistent_with_itself():
    """The report in docs/ links to pictures that are there, and its tables add up."""
    markdown = (DOCS / "report.md").read_text(encoding="utf-8")
    check_report(markdown)
    assert rf.missing_figures(markdown, DOCS) == []
    for workload in rf.WORKLOADS:
        assert (DOCS / "figures" / f"{workload.name}.png").stat().st_size < 330_000
