# SPDX-License-Identifier: GPL-2.0-only
"""Whatever is in a file that a script reads, it says what is wrong in one line, or uses it."""

from __future__ import annotations

import contextlib
import gzip
import re
from pathlib import Path

import pytest

import plot_faults as pf
from benchmark import peers

from mutations import FOREIGN, mutated
from test_benchmark import SAMPLE, perf_file
from test_plot_faults import csv, process

SEED = 20
SOUND = csv(
    process(7, 1, 1000), head="# command: ls\n# wall_offset_ns: 1700000000000000000"
).encode()
# As `export -f csv` writes it: more columns, which may be quoted.
EXPORTED = re.sub(
    rb"(?m)^(\d.*)$",
    rb'\1,"a ""b""\n$",/bin/ls',
    SOUND.replace(b",flags\n", b",flags,process,mapping\n"),
)


def check_plot(folder: Path, content: bytes, capsys) -> int:
    """Plot a file: a picture, or none and one line that says why; return the status."""
    source, picture = folder / "faults.csv", folder / "faults.png"
    source.write_bytes(content)
    picture.unlink(missing_ok=True)
    status = pf.main([str(source), "-o", str(picture), "--size", "800x500", "--dpi", "50"])
    reported = capsys.readouterr()
    lines = reported.err.split("\n")[:-1]
    assert reported.out == ""
    kinds = [line.removeprefix("plot_faults.py: ").split(":")[0] for line in lines]
    assert kinds == ["warning"] * (len(lines) - status) + ["error"] * status, lines
    assert max(map(len, lines), default=0) < 1000, lines
    assert picture.exists() == (status == 0)
    assert status in (0, 1)
    return status


@pytest.mark.parametrize("sound", [SOUND, EXPORTED], ids=["drain", "export"])
def test_damaged_recordings(tmp_path, capsys, sound):
    """A damaged CSV is drawn as far as it is sound, or refused."""
    assert check_plot(tmp_path, sound, capsys) == 0
    statuses = {check_plot(tmp_path, damaged, capsys) for damaged in mutated(sound, SEED, 60)}
    assert statuses == {0, 1}


def test_damaged_compressed_recordings(tmp_path, capsys):
    """The same of a gzip'd one: what breaks its own structure is reported, too."""
    for damaged in mutated(gzip.compress(SOUND, mtime=0), SEED, 60):
        check_plot(tmp_path, damaged, capsys)
    for damaged in mutated(SOUND, SEED + 1, 10):
        check_plot(tmp_path, gzip.compress(damaged, mtime=0), capsys)


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(tmp_path, capsys, content):
    """What is no recording is not drawn, compressed or not."""
    assert check_plot(tmp_path, content, capsys) == 1
    assert check_plot(tmp_path, gzip.compress(content, mtime=0), capsys) == 1


def test_damaged_perf_data():
    """What a peer left is counted or refused."""
    sound = perf_file(SAMPLE, SAMPLE, SAMPLE)
    assert peers.perf_data(sound) == peers.Counts(3, 0)
    for damaged in (*mutated(sound, SEED, 500), *FOREIGN.values()):
        with contextlib.suppress(peers.UnreadableError):
            peers.perf_data(damaged)
