# SPDX-License-Identifier: GPL-2.0-only
"""Tests of plot_faults.py: reading, panels, the picture, errors."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import plot_faults as pf

SCRIPT = Path(pf.__file__)
HEADER = "time_ns,cpu,pid,tid,address,ip,access,flags"
NO_LOSS = "# lost: dropped=0 overwritten=0 missed=0"
PAGE = 4096


def csv(rows, *, head="", tail=NO_LOSS) -> str:
    """Write a recording; a row is (time, pid, address[, access])."""
    lines = [head] if head else []
    lines.append(HEADER)
    for time, pid, address, *access in rows:
        lines.append(f"{time},0,{pid},{pid},{address:#x},0x401000,{(access or ['r'])[0]},user")
    return "\n".join([*lines, *([tail] if tail else [])]) + "\n"


def process(pid: int, seed: int, start: int) -> list[tuple]:
    """Make the faults of one process with a random layout."""
    random = np.random.default_rng(seed)
    program = 0x5555_5555_4000 + int(random.integers(0, 1 << 28)) * PAGE
    mappings = 0x7FFB_FF00_0000 - int(random.integers(0, 1 << 28)) * PAGE
    stack = 0x7FFF_FFFF_F000 - int(random.integers(1 << 12, 0x3FFFFF)) * PAGE
    places = [
        *[(program + n * PAGE, "x") for n in range(8)],
        *[(program + n * PAGE + 64, "w") for n in range(16)],
        *[(mappings - n * PAGE, "r") for n in range(32)],
        *[(stack - n * PAGE, "w") for n in range(3)],
    ]
    return [(start + n * 1000, pid, *place) for n, place in enumerate(places)]


def read(text: str):
    """Read a CSV; return its faults, the names of its panels, and its notes."""
    table, notes = pf.read_csv(io.StringIO(text, newline=""))
    return *pf.arranged(table), notes


def draw(text: str):
    """Draw a CSV as the command does."""
    return pf.draw(*read(text), "a title", "1600x1000")


def texts(figure) -> str:
    """Collect all text of a picture."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def run(*arguments, stdin: bytes | None = None, cwd=None) -> subprocess.CompletedProcess:
    """Run the script as a person does."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def expect_error(result: subprocess.CompletedProcess, *words: str, status: int = 1) -> None:
    """Check that a run failed, with the words in its last line, which is the only one with 1."""
    lines = result.stderr.decode().splitlines()
    assert result.returncode == status, lines
    assert len(lines) == 1 or status == 2, lines
    assert lines[-1].startswith("plot_faults.py: error: ")
    for word in words:
        assert word in lines[-1]
    assert result.stdout == b""


def test_the_script_is_short():
    """It is for people to change."""
    assert len(SCRIPT.read_text().splitlines()) <= 250


def test_every_column_is_read_in_the_order_of_time():
    """What stands in the file is in the arrays."""
    head = "# command: make $HOME\n# clock: X"
    text = csv([(20, 7, 0xFFFF_FFFF_FFFF_F123, "w"), (10, 8, 0x1000, "x")], head=head)
    faults, labels, notes = read(text)
    assert faults.time.tolist() == [10, 20]
    assert faults.pid.tolist() == [8, 7]
    assert faults.access.tolist() == ["execute", "write"]
    assert faults.panel.tolist() == [1, 0]
    assert faults.offset.tolist() == [0, 0x123]
    assert labels == {0: "0xfffffffffffff000", 1: "0x1000"}
    assert notes["command"] == "make $HOME"
    assert notes["lost"].startswith("dropped=0")


EXPORTED = f"""\
# command: make -j2
event,{HEADER},process,fate,mapping,panel,panel_offset,panel_label
fault,1000,0,7,7,0x1000,0x2000,r,user|vma-lock,make,minor,[anon],1,4096,heap
fork,1001,0,7,7,,,,,make,,,,,
fault,1500,0,7,7,0x3000,0x2000,w,user,make,retried,,,,
fault,2000,0,7,8,0x3000,0x2000,w,user,"a,""b
# lost: c",major,"/x,y",0,0,"x, ""y"" z"
{NO_LOSS}
"""


def test_an_export_brings_its_panels():
    """Panels are those of the file; other rows, attempts and quoted texts confuse nothing."""
    faults, labels, notes = read(EXPORTED)
    assert faults.time.tolist() == [1000, 2000]
    assert faults.panel.tolist() == [1, 0]
    assert faults.offset.tolist() == [4096, 0]
    assert labels == {1: "heap", 0: 'x, "y" z'}
    assert notes["lost"] == "dropped=0 overwritten=0 missed=0"
    assert "heap  1" in texts(draw(EXPORTED))


@pytest.mark.parametrize("seed", range(5))
def test_clusters_hold_every_fault(seed):
    """Without panels, each fault is in one cluster: its address is the label and the offset."""
    rows = process(1, seed, 0) + process(2, seed + 50, 10**6)
    faults, labels, _ = read(csv(rows))
    found = [
        int(labels[panel], 16) + offset
        for panel, offset in zip(faults.panel.tolist(), faults.offset.tolist(), strict=True)
    ]
    assert found == [address for _, _, address, _ in sorted(rows)]
    starts = [int(labels[panel], 16) for panel in sorted(labels)]
    assert starts == sorted(starts, reverse=True)


def test_the_picture_has_every_fault():
    """Each is a dot in its panel, and is counted in the legend."""
    rows = process(1, 1, 0)
    figure = draw(csv(rows))
    dots = sum(len(line.get_xdata()) for ax in figure.axes[1:] for line in ax.lines)
    assert dots == len(rows)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["read  32", "write  19", "execute  8"]
    assert "59 faults" in texts(figure)


@pytest.mark.parametrize(
    ("tail", "text", "colour"),
    [
        (NO_LOSS, "lost: dropped=0 overwritten=0 missed=0", "#2e7d4f"),
        ("", "lost: not known, the file has no loss line", "#8a5a00"),
        (
            "# lost: dropped=12 overwritten=0 missed=3",
            "lost: dropped=12 overwritten=0 missed=3",
            "#c8102e",
        ),
    ],
)
def test_losses_are_on_the_picture(tail, text, colour):
    """Losses are written in every case, and stand out where there are any."""
    (found,) = [t for t in draw(csv([(1, 1, 0x1000)], tail=tail)).texts if "lost" in t.get_text()]
    assert (found.get_text(), found.get_color()) == (text, colour)


def test_of_many_panels_the_busiest_are_drawn():
    """What is not drawn is counted."""
    rows = ["time_ns,pid,address,access,panel,panel_offset,panel_label"]
    rows += [f"{n},1,0x1000,r,{n},0,{n}" for n in range(30)] + ["99,1,0x1000,r,29,0,29"]
    figure = draw("\n".join(rows) + "\n")
    assert len(figure.axes) == 1 + pf.PANELS_MOST
    assert "6 faults of 6 regions are not drawn" in texts(figure)
    assert "29  2" in texts(figure)


@pytest.mark.parametrize(
    "rows",
    [
        [(5, 1, 0)],
        [(5, 1, 0x1000), (5, 1, 0x1000)],
        [(0, 1, 0xFFFF_FFFF_FF60_0000), (1, 1, 0xFFFF_FFFF_FFFF_FFFF), (2, 1, 0)],
        [row for pid in range(60) for row in process(pid, pid, pid * 10**9)],
    ],
    ids=["one fault", "no duration", "extreme addresses", "many processes"],
)
def test_unusual_recordings_are_drawn(rows, tmp_path):
    """Nothing in the drawing depends on a usual number, place or time of faults."""
    pf.write(draw(csv(rows)), tmp_path / "a.png", 50)
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.fixture
def sound(tmp_path) -> Path:
    """Write a sound recording to a file."""
    path = tmp_path / "faults.csv"
    path.write_text(csv(process(42, 1, 10**9), head="# command: ./prog"))
    return path


ENDS = {"png": b"IEND\xaeB`\x82", "svg": b"</svg>\n", "pdf": b"%%EOF\n"}


@pytest.mark.parametrize("kind", ENDS)
def test_pictures_are_whole(sound, tmp_path, kind):
    """Each kind of picture is written whole and alone."""
    output = tmp_path / f"a.{kind}"
    result = run(sound, "-o", output)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert output.read_bytes().endswith(ENDS[kind])
    assert {p.name for p in tmp_path.iterdir()} == {"faults.csv", f"a.{kind}"}


def test_png_has_the_size_asked_for(sound, tmp_path):
    """The default is 1600x1000; --size and --dpi change it."""

    def size(path: Path) -> tuple[int, int]:
        head = path.read_bytes()[16:24]
        return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")

    assert run(sound).returncode == 0
    assert size(tmp_path / "faults.png") == (1600, 1000)
    assert run(sound, "--size", "900x600", "--dpi", "200").returncode == 0
    assert size(tmp_path / "faults.png") == (1800, 1200)


def test_gzip_and_standard_input(sound, tmp_path):
    """Plain and gzip'd files and streams give the same picture; .csv.gz loses both suffixes."""
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(sound.read_bytes()))
    assert run(sound).returncode == 0
    assert run(packed).returncode == 0
    assert run("-", "-o", "in.png", stdin=sound.read_bytes(), cwd=tmp_path).returncode == 0
    assert run("-", "-o", "inz.png", stdin=packed.read_bytes(), cwd=tmp_path).returncode == 0
    names = ("faults", "packed", "in", "inz")
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in names}) == 1


def test_a_cut_off_recording_is_plotted_with_a_warning(sound, tmp_path):
    """An interrupted recording, plain or packed, is drawn, and the warning says so."""
    whole = sound.read_bytes()
    sound.write_bytes(whole[: whole.rindex(b"0x7f") + 3])
    result = run(sound)
    assert result.returncode == 0
    assert b"warning: the last line is cut off" in result.stderr
    assert (tmp_path / "faults.png").exists()
    packed = tmp_path / "cut.csv.gz"
    packed.write_bytes(gzip.compress(whole)[:-60])
    result = run(packed)
    assert result.returncode == 0
    assert b"the compressed file is cut off" in result.stderr


def test_a_trace_is_laid_out_by_the_tool(tmp_path):
    """The tool is found, and what it says is passed on; where it is missing, the error says so."""
    trace = tmp_path / "faults.arrow"
    trace.write_bytes(b"\xff\xff\xff\xff rest of a trace")
    tool = tmp_path / "tool"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/asked\necho "fault-tracer: hm" >&2\n'
        f"cat {tmp_path}/exported\n"
    )
    tool.chmod(0o755)
    (tmp_path / "exported").write_text(EXPORTED)

    def plot(**environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(SCRIPT), str(trace)]
        env = {**os.environ, **environment}
        return subprocess.run(command, capture_output=True, env=env, timeout=120, check=False)

    made = plot(FAULT_TRACER=str(tool))
    assert (made.returncode, made.stderr) == (0, b"fault-tracer: hm\n")
    asked = (tmp_path / "asked").read_text()
    assert asked == f"export {trace} -f csv --bands --comments\n"
    expect_error(plot(FAULT_TRACER=str(tmp_path / "none")), "needs fault-tracer; make tools")
    tool.write_text("#!/bin/sh\necho 'fault-tracer: no' >&2\nexit 1\n")
    expect_error(plot(FAULT_TRACER=str(tool)), "fault-tracer: no")


SOUND = "1000,0,7,7,0x1000,0x2000,r,user"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no header", "fault-tracer drain"]),
        (b"time,address\n1,2\n", ["no header"]),
        (b"# only: comments\n", ["no header"]),
        (os.urandom(3000).replace(b"#", b"-"), ["error"]),
        (f"# a: b\n{HEADER}\n{SOUND}\n1,2,3\n{SOUND}\n".encode(), ["line 4", "8 fields"]),
        (f"{HEADER}\n{SOUND.replace('0x1000', 'q')}\n".encode(), ["line 2", "'q'"]),
        (f"{HEADER}\n{SOUND.replace(',r,', ',q,')}\n".encode(), ["line 2", "'q'"]),
        (f"{HEADER}\n{SOUND.replace('1000', '9' * 30)}\n".encode(), ["error"]),
        (csv([]).encode(), ["no such faults", "check what was traced"]),
        (b"\x1f\x8bnot gzip at all", ["error"]),
    ],
)
def test_bad_input(tmp_path, content, words):
    """Each kind of bad input: status 1, one line, and an old picture left as it was."""
    source = tmp_path / "faults.csv"
    source.write_bytes(content)
    old = tmp_path / "faults.png"
    old.write_bytes(b"the old picture")
    expect_error(run(source), str(source), *words)
    assert old.read_bytes() == b"the old picture"
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_files_and_outputs(sound, tmp_path):
    """What cannot be read or written is said, with what to do."""
    expect_error(run(tmp_path / "none.csv"), "none.csv", "No such file")
    expect_error(run(tmp_path, "-o", tmp_path / "a.png"), "Is a directory")
    expect_error(run(sound, "-o", tmp_path / "a.gif"), "a.gif", ".png, .svg or .pdf")
    expect_error(run(sound, "-o", tmp_path / "none" / "a.png"), "No such file")
    (tmp_path / "d.png").mkdir()
    expect_error(run(sound, "-o", tmp_path / "d.png"), "no picture's name")
    same = tmp_path / "same.png"
    same.write_bytes(sound.read_bytes())
    expect_error(run(same), "is the recording itself")
    assert same.read_bytes() == sound.read_bytes()


def test_a_failed_write_keeps_the_old_picture(sound, tmp_path, monkeypatch):
    """A disk that fills up while writing destroys nothing and leaves no half picture."""
    old = tmp_path / "faults.png"
    old.write_bytes(b"the old picture")

    def fill_up(_figure, file, **_options):
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pf.Figure, "savefig", fill_up)
    assert pf.main([str(sound)]) == 1
    assert old.read_bytes() == b"the old picture"
    assert {p.name for p in tmp_path.iterdir()} == {"faults.csv", "faults.png"}


def test_wrong_command_lines(sound):
    """A wrong option is status 2, and the last line names it."""
    expect_error(run(), "file", status=2)
    expect_error(run(sound, "--what"), "--what", status=2)
    expect_error(run(sound, "--pid", "x"), "--pid", status=2)
    expect_error(run(sound, "--size", "10x10"), "WIDTHxHEIGHT", status=2)


def test_pid_selects(tmp_path):
    """--pid keeps only the faults of these processes."""
    both = tmp_path / "both.csv"
    both.write_text(csv(process(1, 1, 0) + process(2, 2, 0)[:5]))
    expect_error(run(both, "--pid", "7"), "no such faults", "its pid")
    assert run(both, "--pid", "2", "-o", tmp_path / "a.svg").returncode == 0
    assert run(both, "--pid", "1", "--pid", "2", "-o", tmp_path / "b.svg").returncode == 0
    sizes = [(tmp_path / name).stat().st_size for name in ("a.svg", "b.svg")]
    assert sizes[0] < sizes[1]
