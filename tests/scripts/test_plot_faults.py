# SPDX-License-Identifier: GPL-2.0-only
"""Tests of plot_faults.py: reading, regions, the address axis, the picture, errors."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import plot_faults as pf

SCRIPT = Path(pf.__file__)
PAGE, MIB, GIB = pf.PAGE, pf.MIB, pf.GIB
NO_LOSS = "# lost: dropped=0 overwritten=0 missed=0"
SOUND = "1000,0,7,7,0x1000,0x2000,r,user"


def csv(rows, *, head="", tail=NO_LOSS) -> str:
    """Write a recording; a row is (time, pid, address[, access[, flags[, tid]]])."""
    lines = [head] if head else []
    lines.append(pf.HEADER)
    for row in rows:
        time, pid, address, access, flags, tid = (*row, *("r", "user", row[1])[len(row) - 3 :])
        lines.append(f"{time},0,{pid},{tid},{address:#x},0x401000,{access},{flags}")
    return "\n".join([*lines, *([tail] if tail else [])]) + "\n"


def recording(rows, **options) -> pf.Recording:
    """Load a recording made of rows."""
    return pf.load(io.StringIO(csv(rows, **options)), "test.csv")


def process(pid: int, seed: int, start: int) -> list[tuple]:
    """Make the faults of one process with a random layout, from its exec on."""
    random = np.random.default_rng(seed)
    program = 0x5555_5555_4000 + int(random.integers(0, 1 << 28)) * PAGE
    mappings = 0x7FFB_FF00_0000 - int(random.integers(0, 1 << 28)) * PAGE
    stack = 0x7FFF_FFFF_F000 - int(random.integers(1 << 12, 0x3FFFFF)) * PAGE
    places = [
        (pf.EXEC_PAGE + 0xFF8, "w", "kernel|gup|remote"),
        *[(program + n * PAGE, "x", "user") for n in range(8)],
        *[(program + 64 * MIB + n * PAGE, "w", "user") for n in range(16)],
        *[(mappings - n * PAGE, "r", "user|vma-lock") for n in range(32)],
        *[(stack - n * PAGE, "w", "user") for n in range(3)],
    ]
    return [(start + n * 1000, pid, *place) for n, place in enumerate(places)]


def figure_texts(figure) -> str:
    """Collect all text of a picture."""
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def draw(rec, **options):
    """Draw a recording as the command would."""
    panels = pf.make_panels(rec, options.get("top"), options.get("aligned"))
    return pf.draw(rec, panels, pf.title_text(rec), options.get("size", (1600, 1000)), 100)


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
    """Check that a run failed with exactly one line that holds the words."""
    lines = result.stderr.decode().splitlines()
    assert result.returncode == status, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("plot_faults.py: error: ")
    for word in words:
        assert word in lines[0]
    assert result.stdout == b""


# ---------------------------------------------------------------- loading


def test_load_reads_every_column_used():
    """Each value arrives in its column, and 64-bit addresses exactly."""
    text = (
        "# command: make -j2\n# kernel: 7.2.12\n" + pf.HEADER + "\n"
        "5000,1,10,11,0x7fffffffe123,0x55d0c0de1234,w,user|vma-lock\n"
        "\n"
        "6000,0,10,12,0xffffffffff600fff,0x0,x,\n" + NO_LOSS + "\n"
    )
    rec = pf.load(io.StringIO(text), "test.csv")
    assert rec.time_ns.tolist() == [5000, 6000]
    assert rec.pid.tolist() == [10, 10]
    assert rec.tid.tolist() == [11, 12]
    assert rec.address.tolist() == [0x7FFFFFFFE123, 0xFFFFFFFFFF600FFF]
    assert rec.access.tolist() == [1, 2]
    assert rec.has_flag("vma-lock").tolist() == [True, False]
    assert rec.has_flag("vma").tolist() == [False, False]
    assert rec.metadata["command"] == "make -j2"
    assert rec.losses == pf.Losses(0, 0, 0)
    assert rec.warnings == []


def test_load_across_chunks(monkeypatch):
    """Faults, line numbers and flags are right where the file is read in pieces."""
    monkeypatch.setattr(pf, "LINES_PER_CHUNK", 3)
    rows = [(n, 1, n * PAGE, "rwx"[n % 3], ["user", "kernel", ""][n % 3]) for n in range(10)]
    rec = recording(rows)
    assert rec.address.tolist() == [n * PAGE for n in range(10)]
    assert rec.access.tolist() == [n % 3 for n in range(10)]
    assert rec.has_flag("kernel").tolist() == [n % 3 == 1 for n in range(10)]
    damaged = csv(rows).replace("\n8,0,", "\n8;0,")
    with pytest.raises(pf.PlotError, match=r"line 10 is damaged"):
        pf.load(io.StringIO(damaged), "test.csv")


def test_load_sorts_by_time():
    """Faults that are out of order are put in order, whole rows at a time."""
    rec = recording([(30, 3, 0x3000), (10, 1, 0x1000), (20, 2, 0x2000)])
    assert rec.time_ns.tolist() == [10, 20, 30]
    assert rec.pid.tolist() == [1, 2, 3]
    assert rec.address.tolist() == [0x1000, 0x2000, 0x3000]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1000,0,7,7,0x1000,0x2000,r", "expected 8 fields"),
        (SOUND + ",more", "expected 8 fields"),
        ("x,0,7,7,0x1000,0x2000,r,", "time_ns: expected a decimal number, found 'x'"),
        ("-5,0,7,7,0x1000,0x2000,r,", "time_ns: expected a decimal number, found '-5'"),
        ("9999999999999999999,0,7,7,0x1,0x2,r,", "time_ns: 9999999999999999999 does not fit"),
        ("1000,0,7.5,7,0x1000,0x2000,r,", "pid: expected a decimal number, found '7.5'"),
        ("1000,0,7,-1,0x1000,0x2000,r,", "tid: expected a decimal number, found '-1'"),
        ("1000,0,7,99999999999,0x1000,0x2000,r,", "tid: 99999999999 does not fit"),
        ("1000,0,7,7,1000,0x2000,r,", "address: expected a hexadecimal number with 0x"),
        ("1000,0,7,7,0x10_0,0x2000,r,", "address: expected a hexadecimal number with 0x"),
        ("1000,0,7,7,0x10000000000000000,0x2000,r,", "address: 0x10000000000000000 does not fit"),
        ("1000,0,7,7,0x1000,ip,r,", "ip: expected a hexadecimal number with 0x, found 'ip'"),
        ("1000,0,7,7,0x1000,0x2000,rw,", "access: expected r, w or x, found 'rw'"),
        (pf.HEADER, "time_ns: expected a decimal number"),
    ],
)
def test_damaged_line_is_named(line, expected):
    """A damaged line stops the plot; the message has its number and what was expected."""
    text = "\n".join(["# command: x", pf.HEADER, SOUND, line, SOUND, NO_LOSS]) + "\n"
    with pytest.raises(pf.PlotError) as error:
        pf.load(io.StringIO(text), "test.csv")
    assert "test.csv: line 4 is damaged: " in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize("cut", range(1, len(SOUND) - len("r,user")))
def test_truncated_last_line(cut):
    """Wherever the last line is cut before its access, the rest is plotted with a warning."""
    rec = pf.load(io.StringIO(f"{pf.HEADER}\n{SOUND}\n{SOUND[:cut]}"), "test.csv")
    assert len(rec) == 1
    assert len(rec.warnings) == 1
    assert "line 3 is cut off" in rec.warnings[0]
    assert rec.losses is None


def test_last_line_cut_in_its_flags_is_kept():
    """Only the flags may be short when all eight fields have begun."""
    rec = pf.load(io.StringIO(f"{pf.HEADER}\n{SOUND}\n{SOUND[:-2]}"), "test.csv")
    assert len(rec) == 2
    assert rec.warnings == []


def test_damaged_loss_line_is_not_taken_for_no_loss():
    """A loss line that cannot be read leaves the losses unknown and warns."""
    rec = recording([(1, 1, 0x1000)], tail="# lost: dropped=0 overwritten=0")
    assert rec.losses is None
    assert "expected dropped=N" in rec.warnings[0]


# ---------------------------------------------------------------- regions

KNOWN = [
    *[0x40_0000 + n * PAGE for n in range(4)],
    *[0x5600_0000_0000 + n * PAGE for n in range(10)],
    *[0x7F00_0000_0000 + n * PAGE for n in range(0, 100, 2)],
    0x7FFC_1234_5678,
]


def test_regions_of_known_addresses():
    """Regions begin and end on the pages touched, and count faults and pages."""
    address = np.array([*KNOWN, 0x40_0010], dtype="u8")
    bands = pf.find_regions(address)
    assert [(b.start, b.end, b.faults, b.pages) for b in bands] == [
        (0x40_0000, 0x40_4000, 5, 4),
        (0x5600_0000_0000, 0x5600_0000_A000, 10, 10),
        (0x7F00_0000_0000, 0x7F00_0006_3000, 50, 50),
        (0x7FFC_1234_5000, 0x7FFC_1234_6000, 1, 1),
    ]


def test_regions_are_named_only_where_certain():
    """Each part of the address space has its name; what lies between has none."""
    rec = recording([(n, 1, a) for n, a in enumerate([*KNOWN, 0x2AAA_0000_0000])])
    names = [b.name for b in pf.find_regions(rec.address, pf.kinds_of(rec))]
    assert names == [
        "low, non-PIE",
        "",
        "PIE executable, heap",
        "mmap, libraries",
        "main stack, vDSO",
    ]


def test_small_and_relatively_small_holes_stay():
    """Holes below 1 MiB, and those of pages strewn over one big mapping, are not cut."""
    near = np.array([0, MIB - PAGE], dtype="u8")
    assert len(pf.find_regions(near)) == 1
    assert len(pf.find_regions(near + np.array([0, 2 * PAGE], "u8"))) == 2
    strewn = np.random.default_rng(5).integers(0, GIB, 2000).astype("u8")
    assert len(pf.find_regions(strewn)) == 1


def test_too_many_regions_merge_at_the_smallest_holes():
    """With one hole too many the smallest is the one left in."""
    starts = np.cumsum([0, 50, 60, 20, 70, 80]) * MIB
    bands = pf.find_regions(starts.astype("u8"), limit=5)
    assert [b.start for b in bands] == [s for s in starts.tolist() if s != 130 * MIB]
    assert bands[2].end == 130 * MIB + PAGE
    assert bands[2].faults == 2


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_lies_in_one_region(seed):
    """For any addresses the regions are disjoint, ordered, few, and hold every fault."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 1 << 47, random.integers(1, 60))
    address = (
        random.choice(centres, 500) + random.integers(0, 1 << random.integers(1, 40), 500)
    ).astype("u8")
    bands = pf.find_regions(address)
    assert 1 <= len(bands) <= pf.MAX_BANDS
    assert all(a.end < b.start for a, b in itertools.pairwise(bands))
    inside = [((address >= b.start) & (address < b.end)).sum() for b in bands]
    assert inside == [b.faults for b in bands]
    assert sum(inside) == 500


def test_one_fault():
    """A single fault has a region of one page that fills the axis."""
    (band,) = pf.place_bands(pf.find_regions(np.array([0x1234], "u8")), 0.02, 0.05)
    assert (band.start, band.end, band.low, band.high) == (0x1000, 0x2000, 0.0, 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_axis_is_monotone_and_bijective_on_regions(seed):
    """Greater addresses lie higher, and each place inside a band leads back."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 1 << 47, 30)
    address = np.unique(random.choice(centres, 800) + random.integers(0, 4 * MIB, 800)).astype("u8")
    bands = pf.place_bands(pf.find_regions(address), 0.02, 0.04)
    axis = pf.AddressAxis(bands)
    sources, places = axis.knots
    assert (np.diff(sources) > 0).all()
    assert (np.diff(places) > 0).all()
    place = axis.forward(address)
    assert (np.diff(place) > 0).all()
    assert place.min() >= 0
    assert place.max() <= 1
    assert np.abs(axis.inverse(place) - address.astype("f8")).max() < 1
    for band in bands:
        mine = (address >= band.start) & (address < band.end)
        assert (place[mine] >= band.low).all()
        assert (place[mine] <= band.high).all()


def test_bands_share_the_whole_axis():
    """Bands fill the axis but for the holes, none below the least height."""
    bands = pf.place_bands(pf.find_regions(np.array(KNOWN, "u8")), 0.02, 0.1)
    assert bands[0].low == 0.0
    assert bands[-1].high == 1.0
    assert min(b.high - b.low for b in bands) >= 0.1
    gaps = [b.low - a.high for a, b in itertools.pairwise(bands)]
    assert gaps == pytest.approx([0.02] * 3)
    heights = {b.pages: b.high - b.low for b in bands}
    assert sorted(heights, key=heights.get) == sorted(heights)


# ---------------------------------------------------------------- aligning


def test_layouts_decide_whether_processes_are_aligned():
    """One process, or forks with one layout, keep addresses; many layouts are aligned."""
    one = recording(process(1, 1, 0))
    forks = recording([row for pid in range(1, 40) for row in process(pid, 1, pid * 10**6)])
    many = recording([row for pid in range(1, 40) for row in process(pid, pid, pid * 10**6)])
    for rec, aligned in ((one, False), (forks, False), (many, True)):
        bands = pf.make_panel(rec, None, pf.MAX_BANDS).bands
        assert [b.origin is not None for b in bands] == [aligned] * len(bands)
        assert len(bands) <= pf.MAX_BANDS
        assert sum(b.faults for b in bands) == len(rec)
    few = many.select(many.pid < 10)
    assert pf.count_layouts(few.address, pf.kinds_of(few)) == 9


def test_aligned_processes_lie_over_each_other():
    """The same program gets the same places, whatever its random layout."""
    rec = recording([row for pid in range(1, 9) for row in process(pid, pid, pid * 10**6)])
    place, bands = pf.align(rec, pf.kinds_of(rec))
    first = place[rec.pid == 1]
    for pid in range(2, 9):
        assert (place[rec.pid == pid] == first).all()
    for band in bands:
        assert ((place >= band.start) & (place < band.end)).sum() == band.faults
    program = next(b for b in bands if b.name.startswith("PIE"))
    # 8 pages, the hole shrunk, 16 pages.
    assert program.size == 7 * PAGE + pf.ALIGN_SHRUNK + 16 * PAGE


def test_exec_separates_the_layouts_of_one_process():
    """A process that runs a new program is aligned anew from there on."""
    rec = recording(process(5, 1, 0) + process(5, 2, 10**6))
    place, _ = pf.align(rec, pf.kinds_of(rec))
    half = len(rec) // 2
    assert (place[:half] == place[half:]).all()


def test_without_randomisation_libraries_are_no_stack():
    """With fixed addresses mmap begins where random stacks lie; the stack is above it."""
    rec = recording([(1, 1, 0x7FFF_F7FC_0000), (2, 1, 0x7FFF_FFFF_D000), (3, 2, 0x7FFF_F7FC_0000)])
    assert pf.kinds_of(rec).tolist() == [pf.MMAP, pf.STACK, pf.STACK]


# ---------------------------------------------------------------- the picture


def test_thinning_keeps_every_spot_and_counts_all():
    """Of the faults on one spot one is drawn, per access, and none goes uncounted."""
    x = np.array([0.0, 0.001, 0.5, 0.5, 1.0])
    y = np.array([0.0, 0.001, 0.5, 0.5, 1.0])
    chosen, counts = pf.thin_out(x, y, np.array([0, 0, 0, 1, 2]), 100, 100)
    assert chosen.tolist() == [0, 2, 3, 4]
    assert counts.tolist() == [2, 1, 1, 1]


def test_thinning_keeps_the_order_of_time():
    """What happened later is drawn later: no access hides the others throughout."""
    x = np.linspace(0, 1, 9)
    chosen, counts = pf.thin_out(x, np.zeros(9), np.array([2, 0, 1] * 3), 100, 100)
    assert chosen.tolist() == list(range(9))
    assert counts.tolist() == [1] * 9


def test_all_faults_are_drawn_at_their_address_and_time():
    """The points' coordinates are those of the input; their colours are by access."""
    rows = [(10**9 + n * 10**8, 1, a, "rwx"[n % 3]) for n, a in enumerate(KNOWN)]
    figure = draw(recording(rows))
    (points,) = figure.axes[1].collections
    offsets = np.asarray(points.get_offsets())
    assert offsets[:, 0] == pytest.approx([n * 0.1 for n in range(len(KNOWN))])
    assert offsets[:, 1].tolist() == KNOWN
    wanted = [matplotlib.colors.to_rgb(pf.ACCESS_COLOURS[n % 3]) for n in range(len(KNOWN))]
    assert points.get_facecolors()[:, :3] == pytest.approx(np.array(wanted))


def test_legend_counts_and_summary():
    """The numbers on the picture equal the input's."""
    rows = [(n * 10**6, 1 + n % 2, 0x40_0000, "r", "user", 100 + n % 5) for n in range(30)]
    rows += [(n * 10**6, 1, 0x50_0000, "w") for n in range(1234)]
    rec = recording(rows, head="# command: make $HOME\n# kernel: 7.2.12")
    figure = draw(rec)
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend == ["read  30", "write  1,234", "execute  0"]
    texts = figure_texts(figure)
    for text in ("1,264 faults", "2 processes", "6 threads", "1.23 s", "kernel 7.2.12", "$HOME"):
        assert text in texts


@pytest.mark.parametrize(
    ("tail", "text", "colour"),
    [
        ("# lost: dropped=0 overwritten=0 missed=0", "no faults lost", pf.GOOD),
        ("", "losses unknown (the file has no loss line)", pf.WARN),
        (
            "# lost: dropped=1200 overwritten=0 missed=34",
            "1,234 FAULTS LOST: 1,200 dropped, 34 missed",
            "white",
        ),
        ("# lost: dropped=0 overwritten=1 missed=0", "1 FAULT LOST: 1 overwritten", "white"),
    ],
)
def test_losses_are_on_the_picture(tail, text, colour):
    """Losses are written in every case, and stand out where there are any."""
    figure = draw(recording([(1, 1, 0x1000)], tail=tail))
    (found,) = [t for t in figure.texts if t.get_text() == text]
    assert found.get_color() == colour
    if "LOST" in text:
        assert found.get_bbox_patch().get_facecolor() == matplotlib.colors.to_rgba(pf.BAD)
        assert found.get_fontsize() >= 14


def test_rate_adds_up_to_all_faults():
    """The histogram's area is the number of faults."""
    rows = [(n * n * 1000, 1, 0x1000, "rwx"[n % 3]) for n in range(500)]
    figure = draw(recording(rows))
    values, edges, _ = figure.axes[0].patches[-1].get_data()
    seconds = np.diff(edges) / 1e3  # the axis is in milliseconds here
    assert (values * seconds).sum() == pytest.approx(500)


def test_regions_are_described_beside_the_axis():
    """Size and faults of each region, its address in hex, and the hole's size are shown."""
    texts = figure_texts(draw(recording([(n, 1, a) for n, a in enumerate(KNOWN)])))
    assert "low, non-PIE\n16 KiB, 4 faults" in texts
    assert "mmap, libraries\n396 KiB, 50 faults" in texts
    assert "0x400000" in texts
    assert "0x7ffc12345000" in texts
    assert re.search(r"41 TiB without a fault", texts)


def test_top_gives_a_plot_for_each_busy_process():
    """The busiest processes come first, each with its own count."""
    rows = [(n, 1 + (n > 20) + (n > 50), 0x40_0000 + n * PAGE) for n in range(100)]
    figure = draw(recording(rows), top=2)
    assert len(figure.axes) == 3
    titles = [ax.get_title(loc="left") for ax in figure.axes[1:]]
    assert titles == [
        "process 3  ·  49 faults, 49 % of all",
        "process 2  ·  30 faults, 30 % of all",
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [(5, 1, 0)],
        [(5, 1, 0x1000), (5, 1, 0x1000)],
        [(0, 1, 0xFFFF_FFFF_FF60_0000), (1, 1, 0xFFFF_FFFF_FFFF_FFFF), (2, 1, 0)],
        [(n, 1, 0x1000, "rwx"[n % 3], "") for n in range(pf.DRAW_EACH + 1)],
        [row for pid in range(60) for row in process(pid, pid, pid * 10**9)],
    ],
    ids=["one fault", "no duration", "extreme addresses", "thinned", "aligned"],
)
def test_unusual_recordings_are_drawn(rows, tmp_path):
    """Nothing in the drawing depends on a usual number, place or time of faults."""
    pf.write(draw(recording(rows)), tmp_path / "a.png", 50)
    assert (tmp_path / "a.png").stat().st_size > 5000


# ---------------------------------------------------------------- the command


@pytest.fixture
def sound(tmp_path) -> Path:
    """Write a sound recording to a file."""
    path = tmp_path / "faults.csv"
    path.write_text(csv(process(42, 1, 10**9), head="# command: ./prog"))
    return path


MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
ENDS = {"png": b"IEND\xaeB`\x82", "svg": b"</svg>\n", "pdf": b"%%EOF\n"}


@pytest.mark.parametrize("kind", MAGIC)
def test_pictures_are_whole_and_repeatable(sound, tmp_path, kind):
    """Each kind of picture is written whole, alone, and twice the same."""
    pictures = []
    for name in ("a", "b"):
        output = tmp_path / f"{name}.{kind}"
        result = run(sound, "-o", output)
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        pictures.append(output.read_bytes())
    assert pictures[0].startswith(MAGIC[kind])
    assert pictures[0].endswith(ENDS[kind])
    assert pictures[0] == pictures[1]
    assert {p.name for p in tmp_path.iterdir()} == {"faults.csv", f"a.{kind}", f"b.{kind}"}


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
    pictures = {
        (tmp_path / f"{name}.png").read_bytes() for name in ("faults", "packed", "in", "inz")
    }
    assert len(pictures) == 1


def test_cut_off_recording_is_plotted_with_a_warning(sound, tmp_path):
    """An interrupted recording, plain or packed, is drawn, and the warning says so."""
    whole = sound.read_bytes()
    sound.write_bytes(whole[: whole.rindex(b"0x7f") + 3])
    result = run(sound)
    assert result.returncode == 0
    assert b"warning" in result.stderr
    assert b"cut off" in result.stderr
    assert (tmp_path / "faults.png").exists()
    packed = tmp_path / "cut.csv.gz"
    packed.write_bytes(gzip.compress(whole)[:-60])
    result = run(packed)
    assert result.returncode == 0
    assert b"the compressed file is cut off" in result.stderr


EXPORTED = f"""\
# fault-tracer 0.1.0
# command: make -j2
# clock: CLOCK_MONOTONIC
# wall_offset_ns: 1763714611000000000
# wall_error_ns: 90
{pf.HEADER},process,thread,kind,fate,mapping,permissions,file_offset
1500000000,0,7,7,0x1000,0x2000,r,user|vma-lock,make,make,zero-page,minor,[anon],rw-p,
1500001000,0,7,8,0x3000,0x2000,w,user,"a,""b\nc",make,zero-fill,minor,"/x,y",rw-p,
2500002000,1,9,9,0x5000,0x2000,x,,sh,sh,file-exec,major,/bin/sh,r-xp,4096
{NO_LOSS}
"""


def test_load_reads_an_export():
    """The CSV of an export has further columns, in which names may hold anything."""
    rec = pf.load(io.StringIO(EXPORTED), "test.csv")
    assert rec.time_ns.tolist() == [1500000000, 1500001000, 2500002000]
    assert rec.tid.tolist() == [7, 8, 9]
    assert rec.address.tolist() == [0x1000, 0x3000, 0x5000]
    assert rec.access.tolist() == [0, 1, 2]
    assert rec.has_flag("user").tolist() == [True, True, False]
    assert rec.losses == pf.Losses(0, 0, 0)
    assert rec.warnings == []
    assert rec.wall_start_ns() == 1763714612500000000
    # Cut off, in the further columns and before them.
    cut = EXPORTED[: EXPORTED.index(",zero-page")]
    assert len(pf.load(io.StringIO(cut), "test.csv")) == 1
    cut = pf.load(io.StringIO(EXPORTED[: EXPORTED.index(",r,user|vma")]), "test.csv")
    assert len(cut) == 0
    assert "cut off" in cut.warnings[0]
    short = EXPORTED.replace(",,sh,sh,file-exec,major,/bin/sh,r-xp,4096", ",")
    with pytest.raises(pf.PlotError, match="is damaged: expected 8 fields"):
        pf.load(io.StringIO(short), "test.csv")


def test_load_reads_what_has_no_comments():
    """The first line is the header; of losses and of the wall clock nothing is known then."""
    plain = "".join(
        line for line in EXPORTED.splitlines(keepends=True) if not line.startswith("#")
    )
    assert plain.startswith(pf.HEADER)
    rec = pf.load(io.StringIO(plain), "test.csv")
    assert rec.time_ns.tolist() == [1500000000, 1500001000, 2500002000]
    assert rec.losses is None
    assert rec.wall_start_ns() is None
    assert rec.warnings == []


def test_the_wall_clock_is_shown_where_it_is_known():
    """The second axis of time has date and times of day in UTC; without an offset it is missing."""
    figure = draw(pf.load(io.StringIO(EXPORTED), "test.csv"))
    texts = figure_texts(figure)
    assert "2025-11-21 UTC" in texts
    assert "08:43:32.6" in texts
    assert "08:43:33.4" in texts
    assert "08:43:33.6" not in texts
    for offset in ("", "# wall_offset_ns: soon", "# wall_offset_ns: -99999999999999999"):
        rec = recording([(1000, 1, 0x1000), (2000, 1, 0x2000)], head=offset)
        assert rec.wall_start_ns() is None
        assert "UTC" not in figure_texts(draw(rec))


@pytest.mark.parametrize(
    ("span", "step", "text"),
    [
        (1, 1, "00:00:01.234567891"),
        (900, 200, "00:00:01.2345678"),
        (10**7, 2 * 10**6, "00:00:01.234"),
        (10**9, 2 * 10**8, "00:00:01.2"),
        (7 * 10**9, 10**9, "00:00:01"),
        (10**11, 15 * 10**9, "00:00:01"),
        (10**13, 30 * 60 * 10**9, "00:00:01"),
        (10**16, 15 * 86400 * 10**9, "00:00:01"),
    ],
)
def test_wall_clock_ticks_are_round(span, step, text):
    """Ticks are at round times, at most as many as fit, written as exactly as need be."""
    assert pf.wall_step(span, 8) == step
    assert span // step < 8
    assert pf.wall_text(1_234_567_891, step) == text


TRACE = b"\xff\xff\xff\xff rest of a trace"


def test_a_trace_without_pyarrow_tells_how_to_go_on(tmp_path):
    """Where pyarrow is missing, the error names the command that makes what can be read."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('No module named pyarrow')")
    trace = tmp_path / "faults.arrow"
    trace.write_bytes(TRACE)
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(trace)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=120,
        check=False,
    )
    expect_error(result, "pyarrow", f"fault-tracer export {trace} -f csv -o faults.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "fault-tracer drain"]),
        (b"time,address\n1,2\n", ["line 1", pf.HEADER, "time,address"]),
        (b"# only: comments\n", ["no header line", pf.HEADER]),
        (os.urandom(3000).replace(b"#", b"-"), ["expected the header"]),
        (f"{pf.HEADER}\n{SOUND}\n1,2,3\n{SOUND}\n".encode(), ["line 3", "8 fields", "found 3"]),
        (csv([]).encode(), ["holds no faults", "check that the process"]),
        (
            csv([], tail="# lost: dropped=9 overwritten=0 missed=0").encode(),
            ["all 9 faults were lost", "--ring-kib"],
        ),
        (b"\x1f\x8bnot gzip at all", ["not sound gzip"]),
    ],
    ids=["empty", "header", "comments", "binary", "damaged", "zero", "all lost", "gzip"],
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
    expect_error(run(tmp_path / "none.csv"), "none.csv does not exist", "record it with")
    expect_error(run(tmp_path, "-o", tmp_path / "a.png"), "cannot read", "Is a directory")
    expect_error(run(sound, "-o", tmp_path / "a.gif"), "a.gif", ".png, .svg or .pdf")
    expect_error(run(sound, "-o", tmp_path / "none" / "a.png"), "does not exist", "create it")
    (tmp_path / "d.png").mkdir()
    expect_error(run(sound, "-o", tmp_path / "d.png"), "is a directory")
    expect_error(run("-", stdin=b""), "name the picture with -o")
    same = tmp_path / "same.png"
    same.write_bytes(sound.read_bytes())
    expect_error(run(same), "is the recording itself")
    assert same.read_bytes() == sound.read_bytes()


def test_failed_write_keeps_the_old_picture(sound, tmp_path, monkeypatch):
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


def test_wrong_command_line(sound):
    """A wrong option is status 2 and one line that names it."""
    expect_error(run(), "FILE", "--help", status=2)
    expect_error(run(sound, "--what"), "--what", status=2)
    expect_error(run(sound, "--pid", "-1"), "--pid", status=2)
    expect_error(run(sound, "--top", "99"), "from 1 to 6", status=2)
    expect_error(run(sound, "--size", "10x10"), "WIDTHxHEIGHT", status=2)


def test_pid_selects_and_names_what_there_is(sound, tmp_path):
    """--pid keeps only that process; an absent one is answered with those present."""
    expect_error(run(sound, "--pid", "7"), "no faults of process 7", "it has 42")
    rec = recording(process(1, 1, 0) + process(2, 2, 0)[:5])
    assert pf.choose_faults(rec, [2]).pid.tolist() == [2] * 5
    assert len(pf.choose_faults(rec, [1, 2])) == len(rec)
    assert pf.choose_faults(rec, None) is rec


def test_help_names_every_option():
    """--help succeeds and shows the examples."""
    result = run("--help")
    assert result.returncode == 0
    for word in (b"--output", b"--pid", b"--top", b"--align", b"--size", b"examples:"):
        assert word in result.stdout
