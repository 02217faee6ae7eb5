# SPDX-License-Identifier: GPL-2.0-only
"""Find named trends in a trace of page faults.

Each trend has a detector: a pure function from a trace to a Finding, or None where the
trace does not meet the detector's criterion, which is its docstring. The text of a
finding is made of what the trace holds, and so are the seconds, the band and the colour
that tell where the picture of plot_faults.py shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

import plot_faults as pf
from plot_faults import EXEC, LOW, MMAP, PAGE, PIE, STACK, counted, size_text

COLOURS = ("blue", "orange", "green")
HUGE_PAGES = (2 * pf.MIB) // PAGE
# The kernel's default fault_around_bytes: a read of a file page maps this window around it.
AROUND_PAGES = (64 * pf.KIB) // PAGE


class ReportError(Exception):
    """What went wrong and what to do about it, as one line for the user."""


# ---------------------------------------------------------------- the trace


@dataclass(frozen=True)
class Life:
    """A process from one exec to the next, or a forked one from its first fault to its exec."""

    pid: int
    faults: int
    start: float  # in seconds since the trace's first fault
    end: float
    has_exec: bool


class Trace:
    """A recording in time order, and what the detectors ask of it again and again."""

    def __init__(self, recording: pf.Recording) -> None:
        if not len(recording):
            raise ReportError(f"{recording.name} holds no faults; look at its .log and .summary")
        self.recording = recording
        self.total = len(recording)
        self.kind = pf.kinds_of(recording)
        self.page = (recording.address // np.uint64(PAGE)).astype("i8")
        self.time = (recording.time_ns - recording.time_ns[0]) / 1e9
        self.span = float(self.time[-1])
        flag = recording.has_flag
        self.read, self.write, self.execute = (recording.access == code for code in range(3))
        self.present, self.tried, self.vma_lock = flag("present"), flag("tried"), flag("vma-lock")
        self.shared = flag("shared")
        self.private_file = flag("file") & ~self.shared
        self.anonymous = ~flag("file") & ~self.shared
        self.gup = flag("gup") | flag("remote")
        self.user = flag("user") & ~self.gup
        self.from_kernel = ~self.user & ~self.gup

    @cached_property
    def panel(self) -> pf.Panel:
        """The plot as plot_faults draws it: what a place in the picture is called."""
        return pf.make_panel(self.recording, None, pf.MAX_BANDS)

    @cached_property
    def is_exec(self) -> np.ndarray:
        """The first fault of each exec: the kernel writes the top of the new stack."""
        return (self.kind == EXEC) & (self.recording.address >= pf.EXEC_PAGE)

    @cached_property
    def life(self) -> np.ndarray:
        """For each fault the index of its life in `lives`."""
        order = np.argsort(self.recording.pid, kind="stable")
        pid, starts = self.recording.pid[order], self.is_exec[order]
        new = np.concatenate([[True], pid[1:] != pid[:-1]]) | starts
        life = np.empty(self.total, "i8")
        life[order] = np.cumsum(new) - 1
        return life

    @cached_property
    def lives(self) -> list[Life]:
        """All lives, in the order of their process ids and then of time."""
        order = np.argsort(self.life, kind="stable")
        starts = np.flatnonzero(np.diff(self.life[order], prepend=-1))
        ends = np.append(starts[1:], self.total)
        return [
            Life(
                pid=int(self.recording.pid[order[a]]),
                faults=int(b - a),
                start=float(self.time[order[a]]),
                end=float(self.time[order[b - 1]]),
                has_exec=bool(self.is_exec[order[a]]),
            )
            for a, b in zip(starts, ends, strict=True)
        ]

    @property
    def programs(self) -> list[Life]:
        """The lives that began with an exec."""
        return [life for life in self.lives if life.has_exec]

    @cached_property
    def processes(self) -> int:
        """How many processes faulted."""
        return len(np.unique(self.recording.pid))

    @cached_property
    def threads(self) -> int:
        """How many threads faulted."""
        return len(np.unique(self.recording.tid))

    def share(self, number: float) -> str:
        """Write a part of all faults as a percentage."""
        return percent(number / self.total)

    @property
    def peak_rate(self) -> tuple[float, float]:
        """Most faults per second over a hundredth of the run, and when that began."""
        if not self.span:
            return 0.0, 0.0
        counts, edges = np.histogram(self.time, 100, (0, self.span))
        return float(counts.max() / (edges[1] - edges[0])), float(edges[counts.argmax()])

    @cached_property
    def silence(self) -> tuple[float, float, int]:
        """The longest interval that holds at most 1 % of the faults: start, end, faults."""
        inside = self.total // 100
        if self.total < inside + 2:
            return 0.0, 0.0, 0
        lengths = self.time[inside + 1:] - self.time[: -(inside + 1)]
        at = int(np.argmax(lengths))
        return float(self.time[at]), float(self.time[at + inside + 1]), inside

    @cached_property
    def steadiness(self) -> float:
        """The part of the run, in twentieths, that sees a quarter of the mean rate or more."""
        counts, _ = np.histogram(self.time, 20, (0, max(self.span, 1e-9)))
        return float(np.mean(counts >= 0.25 * self.total / 20))

    def done_by(self, part: float) -> float:
        """When that part of all faults had happened, as a part of the run."""
        at = min(int(np.ceil(part * self.total)), self.total) - 1
        return float(self.time[at] / self.span) if self.span else 0.0


# ---------------------------------------------------------------- text


def percent(part: float) -> str:
    """Write a part as a percentage with the digits that matter."""
    value = 100 * part
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.5 <= value < 100:
        return f"{min(value, 99.9):.1f} %"
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def clock(seconds: float, span: float) -> str:
    """Write a time on the picture's x axis, as precisely as it can be read there."""
    if span < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.{0 if span >= 50 else 1 if span >= 10 else 2}f} s"


def interval(start: float, end: float, span: float) -> str:
    """Write a part of the x axis; what is too short to be seen as one is a moment."""
    if end - start < 0.015 * span:
        return f"at {clock(start, span)}"
    return f"from {clock(start, span).split()[0]} to {clock(end, span)}"


def join(parts: Sequence[str]) -> str:
    """Write a list: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def colours_of(trace: Trace, mask: np.ndarray) -> str:
    """Name the colours in which these faults are drawn."""
    counts = np.bincount(trace.recording.access[mask], minlength=3)
    order = np.argsort(-counts, kind="stable")
    return join([COLOURS[code] for code in order if counts[code] >= 0.15 * counts.sum()])


def bands_of(trace: Trace, mask: np.ndarray) -> str:
    """Name the bands in which most of these faults lie, as the picture labels them."""
    place = trace.panel.place[mask]
    bands = trace.panel.bands
    counts = [int(np.sum((place >= b.start) & (place < b.end))) for b in bands]
    order = np.argsort([-count for count in counts], kind="stable")[:3]
    chosen: list[int] = []
    for index in order:
        chosen.append(int(index))
        if sum(counts[i] for i in chosen) >= 0.75 * len(place):
            break
    # From the top of the picture down; bands of one name are told apart by their addresses.
    feet: dict[str, list[str]] = {}
    for band in (bands[i] for i in sorted(chosen, reverse=True)):
        at = feet.setdefault(f"“{band.name}”" if band.name else "", [])
        if band.origin is None:
            at.append(f"`0x{band.start:x}`")
    names = [f"{name} at {join(at)}".strip() if at else name for name, at in feet.items()]
    return f"{'band' if len(chosen) == 1 else 'bands'} {join(names)}"


def place_of(trace: Trace, mask: np.ndarray) -> str:
    """Say where in the picture these faults are: colour, bands, seconds.

    Of what lies all over the run it says where it is densest, if it is so somewhere.
    """
    start, end = np.quantile(trace.time[mask], [0.02, 0.98])
    text = (
        f"{colours_of(trace, mask)}, {bands_of(trace, mask)}, "
        f"{interval(float(start), float(end), trace.span)}"
    )
    if end - start > 0.6 * trace.span:
        counts, edges = np.histogram(trace.time[mask], 50, (0, trace.span))
        densest = int(counts.argmax())
        if counts[densest] >= 0.1 * counts.sum():
            middle = float(edges[densest] + edges[densest + 1]) / 2
            text += f", densest at {clock(middle, trace.span)}"
    return text


# ---------------------------------------------------------------- findings


@dataclass(frozen=True)
class Finding:
    """A trend that the trace shows."""

    name: str
    weight: int  # faults that it is about, made or spared: the order in the report
    text: str
    place: str
    advice: str


def sequences(trace: Trace, mask: np.ndarray, step: int) -> list[np.ndarray]:
    """Find runs in which a thread takes pages one after the other, as indices of faults.

    A thread's faults in different parts of the address space do not interrupt each other.
    """
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        return []
    keys = (trace.kind, trace.recording.tid, trace.life)
    order = chosen[np.lexsort((chosen, *(key[chosen] for key in keys)))]
    broken = np.diff(trace.page[order]) != step
    for key in keys:
        broken |= key[order[1:]] != key[order[:-1]]
    return np.split(order, np.flatnonzero(broken) + 1)


def ramps(trace: Trace, kinds: Iterable[int], least: int) -> list[np.ndarray]:
    """Find the runs of at least so many anonymous pages first written in address order."""
    mask = trace.anonymous & trace.write & ~trace.present & ~trace.gup
    mask &= np.isin(trace.kind, list(kinds))
    found = sequences(trace, mask, 1) + sequences(trace, mask, -1)
    return sorted((run for run in found if len(run) >= least), key=len, reverse=True)


def when(trace: Trace, faults: np.ndarray) -> str:
    """Say when these faults are, as on the picture's x axis."""
    return interval(trace.time[faults[0]], trace.time[faults[-1]], trace.span)


def shape(trace: Trace, runs: Sequence[np.ndarray]) -> str:
    """Tell what runs of pages look like at the picture's scale."""
    axis = pf.AddressAxis(pf.place_bands(trace.panel.bands, 0.03, 0.03))
    tall = max(np.ptp(axis.forward(trace.panel.place[run])) for run in runs)
    wide = max(np.ptp(trace.time[run]) / max(trace.span, 1e-9) for run in runs)
    if tall < 0.02:
        return "short strokes or strips of dots" if wide < 0.015 else "flat strips of dots"
    return "steep lines" if tall > 2 * wide else "lines that slope to the right"


def find_start_up_burst(trace: Trace) -> Finding | None:
    """Programs that live long take at least a fifth of their faults in 5 % of their life.

    A long life is a tenth of the run; together they must make up 30 % of the faults.
    """
    early = np.zeros(trace.total, bool)
    long_faults, numbers, starts = 0, 0, []
    for index, life in enumerate(trace.lives):
        length = life.end - life.start
        if not life.has_exec or length < 0.1 * trace.span or life.faults < 50:
            continue
        mine = trace.life == index
        first = mine & (trace.time <= life.start + 0.05 * length)
        if first.sum() < 0.2 * life.faults:
            continue
        early |= first
        long_faults += life.faults
        numbers += 1
        starts.append(clock(life.start, trace.span))
    if not numbers or long_faults < 0.3 * trace.total:
        return None
    count = int(early.sum())
    if numbers == 1:
        own = percent(count / long_faults)
        who = f"The program takes {counted(count, 'fault')}, {own} of its own,"
        whose = "its life"
    else:
        who = (
            f"The {numbers} long-lived programs, started at {join(starts)}, take "
            f"{counted(count, 'fault')}, {percent(count / long_faults)} of their own,"
        )
        whose = "their lives"
    files = int((early & trace.private_file).sum())
    return Finding(
        "Start-up burst",
        count,
        f"{who} in the first twentieth of {whose}; {percent(files / count)} of these are on "
        "private file pages: executable and libraries being relocated and first called.",
        f"the columns of dots and the peak of the rate: {place_of(trace, early)}",
        "for a short-lived tool, a static or prelinked binary, or fewer libraries; for a service, "
        "`MAP_POPULATE` and `mlockall` move the burst, they do not remove it.",
    )


def find_start_up_floor(trace: Trace) -> Finding | None:
    """At least 20 programs, of which the cheapest tenth still costs 5 % of all faults."""
    costs = np.array([life.faults for life in trace.programs])
    if len(costs) < 20:
        return None
    floor = int(np.percentile(costs, 10))
    total = floor * len(costs)
    if total < 0.05 * trace.total:
        return None
    return Finding(
        "The price of an exec",
        total,
        f"{counted(len(costs), 'program')} start, and 90 % of them take {floor} faults or more "
        f"(the cheapest {costs.min()}, the median {int(np.median(costs))}). At {floor} each, "
        f"starting programs alone comes to about {total:,} faults, {trace.share(total)} of all.",
        f"every dot of the top row is one exec: {place_of(trace, trace.is_exec)}; below each "
        "stands its column of mappings and libraries",
        "fewer processes rather than cheaper ones: a build that asks the compiler once instead of "
        "once per option, shell built-ins for tiny tools; static linking for what is run hundreds "
        "of times.",
    )


def find_exec_storm(trace: Trace) -> Finding | None:
    """Half of at least 20 execs fall into 20 % of the run, at 1.5 times the mean fault rate."""
    times = trace.time[trace.is_exec]
    if len(times) < 20:
        return None
    half = len(times) // 2
    lengths = times[half:] - times[: len(times) - half]
    at = int(np.argmin(lengths))
    start, end = float(times[at]), float(times[at + half])
    if end - start > 0.2 * trace.span:
        return None
    inside = (trace.time >= start) & (trace.time <= end)
    count = int(inside.sum())
    rate = count / max(end - start, 1e-9) / (trace.total / trace.span)
    if rate < 1.5:
        return None
    return Finding(
        "Storm of short programs",
        count,
        f"Half of the {len(times)} execs fall into {percent((end - start) / trace.span)} of the "
        f"run. This interval holds {counted(count, 'fault')}, {trace.share(count)} of all, at "
        f"{rate:.1f} times the mean rate.",
        f"the dense block {interval(start, end, trace.span)}, in all bands, and the plateau of "
        "the rate above it",
        "cache what the short programs find out (in a kernel build: the tests of compiler "
        "options), so that the next build need not ask again.",
    )


def find_dominant_programs(trace: Trace) -> Finding | None:
    """Of at least 20 programs, at most a tenth takes half of the faults."""
    lives = sorted(trace.programs, key=lambda life: -life.faults)
    if len(lives) < 20:
        return None
    sums = np.cumsum([life.faults for life in lives])
    few = int(np.searchsorted(sums, 0.5 * trace.total)) + 1
    if few > 0.1 * len(lives):
        return None
    ids = [i for i, life in enumerate(trace.lives) if life in lives[:few]]
    mask = np.isin(trace.life, ids)
    # Forks share no life with their parents, so that `mask` holds just these programs.
    return Finding(
        "A few programs take most",
        int(mask.sum()),
        f"{few} of {len(lives)} programs take {trace.share(mask.sum())} of all faults, between "
        f"{lives[few - 1].faults:,} and {lives[0].faults:,} each; the median program takes "
        f"{int(np.median([life.faults for life in lives]))}.",
        f"the long traces that cross the picture: {place_of(trace, mask)}",
        "look at these alone first (`plot_faults.py --top 4`): a saving that holds for them holds "
        "for half of all faults.",
    )


def find_sustained(trace: Trace) -> Finding | None:
    """At least 200 faults; 80 % of the run sees a quarter of the mean rate or more."""
    if trace.total < 200 or trace.steadiness < 0.8:
        return None
    rate, at = trace.peak_rate
    mean = trace.total / trace.span
    return Finding(
        "No steady state",
        trace.total,
        f"The faults never stop: of 20 equal parts of the run {trace.steadiness * 20:.0f} see at "
        f"least a quarter of the mean rate. The peak, at {clock(at, trace.span)}, is "
        f"{rate / mean:.1f} times the mean.",
        "the rate above the plot, which does not fall to zero for long",
        "no warm-up helps a program that never warms: what counts here is the cost of one fault "
        "and their number per process.",
    )


def find_silence(trace: Trace) -> Finding | None:
    """An interval of at least 40 % of the run holds at most 1 % of the faults."""
    start, end, inside = trace.silence
    if trace.span == 0 or end - start < 0.4 * trace.span:
        return None
    few = f"at most {counted(inside, 'fault')}" if inside else "not one fault"
    return Finding(
        "Steady state without faults",
        inside,
        f"For {percent((end - start) / trace.span)} of the run {few} of {trace.total:,} "
        f"{'occur' if inside != 1 else 'occurs'}: the working set is in place.",
        f"the empty plot {interval(start, end, trace.span)}",
        "nothing; if the program is slow there, page faults are not why.",
    )


def find_exit_burst(trace: Trace) -> Finding | None:
    """The last 2 % of the run hold at least 4 % of the faults, the 10 % before at most half."""
    late = trace.time >= 0.98 * trace.span
    before = (trace.time >= 0.88 * trace.span) & ~late
    count = int(late.sum())
    if not trace.span or count < max(0.04 * trace.total, 15) or before.sum() > 0.5 * count:
        return None
    fresh = int((late & trace.anonymous & ~trace.present).sum())
    text = int((late & trace.execute).sum())
    return Finding(
        "Burst at the end",
        count,
        f"{counted(count, 'fault')}, {trace.share(count)} of all, in the last 2 % of the run: "
        f"{fresh} first touches of anonymous pages and {text} instruction fetches. The program "
        "gathers its results and ends, with memory and code that it had not needed before.",
        place_of(trace, late),
        "keep them out of a measured interval; they are paid once.",
    )


def find_text_walk(trace: Trace) -> Finding | None:
    """At least 30 instruction fetches and 5 % of the faults, 70 % of each life's in own windows.

    A window is the 64 KiB that the kernel maps around a fault on a file page.
    """
    mask = trace.execute & trace.private_file & ~trace.tried
    count = int(mask.sum())
    if count < 30 or count < 0.05 * trace.total:
        return None
    pairs = np.stack([trace.life[mask], trace.page[mask] // AROUND_PAGES])
    windows = np.unique(pairs, axis=1).shape[1]
    if windows < 0.7 * count:
        return None
    programs = len(trace.programs)
    each = f", {count / programs:.0f} for each of {programs:,} execs" if programs > 1 else ""
    return Finding(
        "Library text walk",
        count,
        f"{counted(count, 'instruction fetch', 'instruction fetches')} fault on file pages, "
        f"{trace.share(count)} of all{each}. They fall into {windows:,} different windows of 64 "
        f"KiB ({percent(windows / count)} of the fetches): fault-around works, and what faults is "
        "new code.",
        f"vertical rows of dots: {place_of(trace, mask)}",
        "static linking with `-ffunction-sections -Wl,--gc-sections`, ordering functions by first "
        "use, or text on huge pages, so that one fault brings more code.",
    )


def find_late_text(trace: Trace) -> Finding | None:
    """Of the fetches of programs with 2 % of the faults each, 20 % come in their second half."""
    late = np.zeros(trace.total, bool)
    fetches, programs = 0, 0
    for index, life in enumerate(trace.lives):
        length = life.end - life.start
        if life.faults < max(0.02 * trace.total, 200) or length < 0.05 * trace.span:
            continue
        mine = (trace.life == index) & trace.execute & trace.private_file
        fetches += int(mine.sum())
        programs += 1
        late |= mine & (trace.time > life.start + 0.5 * length)
    count = int(late.sum())
    if count < 50 or count < 0.2 * fetches:
        return None
    return Finding(
        "Code that is reached late",
        count,
        f"In the {counted(programs, 'program')} with most faults, {percent(count / fetches)} of "
        f"{fetches:,} instruction fetches that fault come in the second half of the program's "
        "life: they enter parts of their code only when the work before is done.",
        f"green clusters well after each program's first column: {place_of(trace, late)}",
        "`madvise(MADV_POPULATE_READ)` on the text, or a warm page cache and larger folios, would "
        "take these at once; with profile-guided layout there would be fewer.",
    )


def find_relocations(trace: Trace) -> Finding | None:
    """At least 20 writes to private file pages, and 3 % of the faults."""
    mask = trace.private_file & trace.write & ~trace.tried
    count = int(mask.sum())
    if count < 20 or count < 0.03 * trace.total:
        return None
    present = int((mask & trace.present).sum())
    programs = len(trace.programs)
    each = f", {count / programs:.0f} for each of {programs:,} execs" if programs > 1 else ""
    return Finding(
        "Copies of library data",
        count,
        f"{counted(count, 'write')} to private pages of files, {trace.share(count)} of all{each}: "
        f"relocations and initialised data. Each makes a private copy of a page; {present:,} of "
        "them find that page mapped for reading already.",
        place_of(trace, mask),
        "prelinking or static non-PIE linking (no relocations to apply), `-Bsymbolic` and hidden "
        "visibility in large libraries (fewer of them).",
    )


def find_fork_copies(trace: Trace) -> Finding | None:
    """At least 10 forks; writes to present pages before exec are 2 % of all faults."""
    ids = [i for i, life in enumerate(trace.lives) if not life.has_exec]
    # The first process of a recording has no exec before it, but was not forked within it.
    if trace.life[0] in ids:
        ids.remove(int(trace.life[0]))
    before = np.isin(trace.life, ids)
    copies = before & trace.present & trace.write & ~trace.shared
    count = int(copies.sum())
    if len(ids) < 10 or count < 0.02 * trace.total:
        return None
    return Finding(
        "Copy-on-write storm after fork",
        count,
        f"{counted(len(ids), 'forked process', 'forked processes')} take "
        f"{counted(int(before.sum()), 'fault')} before an exec; {count:,} of them, "
        f"{trace.share(count)} of all faults, copy a page that parent and child shared.",
        place_of(trace, copies),
        "`posix_spawn` or `vfork` where the child only goes on to exec.",
    )


def find_cheap_forks(trace: Trace) -> Finding | None:
    """At least 20 forked processes go on to exec, three quarters of them with 3 faults or fewer."""
    lives = trace.lives
    costs = [
        life.faults
        for life, after in zip(lives, lives[1:], strict=False)
        if not life.has_exec and after.has_exec and after.pid == life.pid
    ]
    if len(costs) < 20 or np.mean(np.array(costs) <= 3) < 0.75:
        return None
    few = int(np.sum(np.array(costs) <= 3))
    ids = {i for i, life in enumerate(lives) if not life.has_exec}
    mask = np.isin(trace.life, list(ids))
    return Finding(
        "Forks that cost next to nothing",
        int(mask.sum()),
        f"Of {len(costs)} forked processes that go on to exec, {few} take at most 3 faults before "
        f"it (the median {int(np.median(costs))}), as few as a child of `vfork` or `posix_spawn`, "
        "which borrows its parent's memory. All faults between fork and exec, or of forks without "
        f"an exec, are {counted(int(mask.sum()), 'fault')}, {trace.share(mask.sum())}.",
        f"no shape of its own: these are {trace.share(mask.sum())} of the dots",
        "nothing to gain here; a rise of this figure would show a tool that went back to `fork`.",
    )


def find_heap_ramp(trace: Trace) -> Finding | None:
    """Runs of 16 or more heap pages in address order make up 3 % of the faults, one has 64."""
    runs = ramps(trace, (LOW, PIE), 16)
    count = sum(map(len, runs))
    if not runs or len(runs[0]) < 64 or count < 0.03 * trace.total:
        return None
    mask = np.zeros(trace.total, bool)
    mask[np.concatenate(runs)] = True
    lives = len(np.unique(trace.life[mask]))
    return Finding(
        "Heap ramp",
        count,
        f"{counted(count, 'fault')}, {trace.share(count)} of all, take fresh heap page by page in "
        f"address order: {counted(len(runs), 'run')} of at least 16 pages in "
        f"{counted(lives, 'program')}. The longest is {len(runs[0]):,} pages "
        f"({size_text(len(runs[0]) * PAGE)}), {when(trace, runs[0])}.",
        f"{shape(trace, runs)}: {place_of(trace, mask)}",
        "a heap that comes in larger pieces: `glibc.malloc.hugetlb=1` (so that `brk` memory gets "
        "huge pages), or an arena allocator over `mmap` with `MADV_POPULATE_WRITE`. A larger "
        "`M_TOP_PAD` saves system calls, not faults.",
    )


def find_buffer(trace: Trace) -> Finding | None:
    """A run of at least 64 mmap'ed pages in address order; all such runs are 5 % of the faults."""
    runs = ramps(trace, (MMAP,), 64)
    count = sum(map(len, runs))
    if not runs or count < 0.05 * trace.total:
        return None
    mask = np.zeros(trace.total, bool)
    mask[np.concatenate(runs)] = True
    sizes = sorted({len(run) for run in runs})
    many = size_text(sizes[0] * PAGE)
    if sizes[-1] != sizes[0]:
        many = f"{many} to {size_text(sizes[-1] * PAGE)}"
    last = f" The largest is written {when(trace, runs[0])}." if len(sizes) > 1 else ""
    again = 0
    for run in runs:
        later = np.flatnonzero(trace.life == trace.life[run[0]])
        later = later[later > run[-1]]
        again += len(np.intersect1d(trace.page[later], trace.page[run]))
    if again:
        after = f"{again:,} of their pages fault again later."
    else:
        after = "Not one of their pages faults again."
    one = len(runs) == 1
    return Finding(
        "Buffers touched once" if not one else "One buffer touched once",
        count,
        f"{counted(len(runs), 'buffer')} of {many} {'is' if one else 'are'} written from one end "
        f"to the other, page after page: {counted(count, 'fault')}, {trace.share(count)} of all. "
        f"{after}{last}",
        f"{shape(trace, runs)}: {place_of(trace, mask)}",
        "`MAP_POPULATE` (the same pages by one system call), or buffers of 2 MiB and more, "
        "aligned, so that transparent huge pages serve them with one fault for 512 pages.",
    )


def find_huge_steps(trace: Trace) -> Finding | None:
    """Chains of 4 or more adjacent 2 MiB blocks, each entered by one anonymous write: 20 blocks."""
    mask = trace.anonymous & trace.write & (trace.kind == MMAP) & ~trace.gup
    mask[mask] = ~trace.present[mask]
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        return None
    key = np.stack([trace.life[chosen], trace.page[chosen] // HUGE_PAGES])
    blocks, first, counts = np.unique(key, axis=1, return_index=True, return_counts=True)
    single = counts == 1
    life, block, first = blocks[0][single], blocks[1][single], chosen[first[single]]
    breaks = np.flatnonzero((np.diff(life) != 0) | (np.diff(block) != 1)) + 1
    chains = [chain for chain in np.split(np.arange(len(block)), breaks) if len(chain) >= 4]
    count = sum(map(len, chains))
    if count < 20:
        return None
    steps = np.zeros(trace.total, bool)
    steps[first[np.concatenate(chains)]] = True
    longest = max(map(len, chains))
    small = int(mask.sum()) - count
    return Finding(
        "Staircase of huge pages",
        min(count * HUGE_PAGES, trace.total),
        f"{counted(count, 'fault')} bring {size_text(count * HUGE_PAGES * PAGE)} in steps of 2 "
        f"MiB: each is the only one in its block, in chains of up to {longest} adjacent blocks. "
        f"With 4 KiB pages the same memory could take {count * HUGE_PAGES:,} faults; the other "
        f"{counted(small, 'first write')} to anonymous mappings brought one page or a few each.",
        f"slanting dotted lines: {place_of(trace, steps)}",
        "transparent huge pages already do their work here; alignment and size of the other "
        "mappings are what keeps them from it.",
    )


def clusters(trace: Trace, mask: np.ndarray, gap: int) -> list[np.ndarray]:
    """Split faults into groups of one life with holes of `gap` pages at most, biggest first."""
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        return []
    order = chosen[np.lexsort((trace.page[chosen], trace.life[chosen]))]
    cut = (np.diff(trace.life[order]) != 0) | (np.diff(trace.page[order]) > gap)
    parts = [np.sort(part) for part in np.split(order, np.flatnonzero(cut) + 1)]
    return sorted(parts, key=len, reverse=True)


def is_random(trace: Trace, faults: np.ndarray) -> bool:
    """Tell whether fewer than a fifth of successive faults are on neighbouring pages."""
    steps = np.abs(np.diff(trace.page[faults]))
    return len(steps) > 0 and float(np.mean(steps <= 1)) < 0.2


def decay(trace: Trace, faults: np.ndarray) -> tuple[float, float, float]:
    """Return start, end, and the time by which half of these faults had happened."""
    times = trace.time[faults]
    return float(times[0]), float(times[-1]), float(times[(len(times) - 1) // 2])


def find_random_file_walk(trace: Trace) -> Finding | None:
    """At least 200 faults, and 10 %, on one shared file in random order over a tenth of the run."""
    groups = clusters(trace, trace.shared & ~trace.tried, 256)
    if not groups:
        return None
    faults = groups[0]
    start, end, half = decay(trace, faults)
    enough = len(faults) >= max(200, 0.1 * trace.total) and end - start >= 0.1 * trace.span
    if not enough or not is_random(trace, faults):
        return None
    mask = np.zeros(trace.total, bool)
    mask[faults] = True
    pages = trace.page[faults]
    size = int(pages.max() - pages.min()) + 1
    windows = len(np.unique(pages // AROUND_PAGES))
    total_windows = int(pages.max() // AROUND_PAGES - pages.min() // AROUND_PAGES) + 1
    reads, writes = int((mask & trace.read).sum()), int((mask & trace.write).sum())
    read_windows = len(np.unique(trace.page[mask & trace.read] // AROUND_PAGES))
    fading = half - start < 0.35 * (end - start)
    course = (
        "The walk fades as it fills the page table: half of its faults come in the first "
        f"{percent((half - start) / (end - start))} of its time."
        if fading
        else "It does not fade within the run."
    )
    return Finding(
        "Random page walk over the mapped file",
        len(faults),
        f"{counted(len(faults), 'fault')}, {trace.share(len(faults))} of all, in "
        f"{size_text(size * PAGE)} of one shared mapping: {counted(reads, 'read')} and "
        f"{counted(writes, 'write')}, in random order. They reach {windows:,} of "
        f"{total_windows:,} windows of 64 KiB. The reads fall into {read_windows:,} different "
        f"windows, {reads / max(read_windows, 1):.1f} per window instead of 16: fault-around maps "
        f"the neighbours of a page that is read. {course}",
        f"the cloud of dots, thinning to the right: {place_of(trace, mask)}"
        if fading
        else f"the cloud of dots: {place_of(trace, mask)}",
        "`MAP_POPULATE` or `MADV_POPULATE_WRITE` where the whole file will be used; a huge=always "
        "tmpfs, or hugetlbfs, where it is big; `MADV_RANDOM` stops read-ahead from disk, not "
        "these.",
    )


def find_random_table(trace: Trace) -> Finding | None:
    """At least 32 anonymous pages of an area, first written at random over 20 % of the run."""
    mask = trace.anonymous & trace.write & ~trace.present & ~trace.gup
    mask &= trace.time >= 0.05 * trace.span
    mask &= trace.time <= 0.97 * trace.span
    # A buffer beside the table, written from end to end, would hide it.
    for run in ramps(trace, (LOW, PIE, MMAP), 16):
        mask[run] = False
    for faults in clusters(trace, mask, 64)[:5]:
        if len(faults) < max(32, 0.03 * trace.total):
            return None
        start, end, half = decay(trace, faults)
        if end - start < 0.2 * trace.span or not is_random(trace, faults):
            continue
        if half - start > 0.4 * (end - start):
            continue
        mask = np.zeros(trace.total, bool)
        mask[faults] = True
        pages = trace.page[faults]
        size = int(pages.max() - pages.min()) + 1
        return Finding(
            "First touch in random order",
            len(faults),
            f"{counted(len(faults), 'page')} of an area of {size_text(size * PAGE)} are written "
            f"for the first time one by one, in random order, {trace.share(len(faults))} of all "
            f"faults. Half of them come in the first {percent((half - start) / (end - start))} of "
            "the time this takes; the rest trickle in as the last gaps are hit.",
            f"a horizontal strip that thins to the right: {place_of(trace, mask)}",
            "clear the table once when it is allocated (`memset`, not `calloc`, or "
            "`MADV_POPULATE_WRITE`): the same pages, but none of their faults within a measured "
            "operation.",
        )
    return None


def find_metronome(trace: Trace) -> Finding | None:
    """At least 8 adjacent pages, one after the other at even intervals over 30 % of the run."""
    mask = trace.anonymous & trace.write & ~trace.present & ~trace.gup & ~trace.tried
    beats = []
    for faults in clusters(trace, mask & (trace.time >= 0.02 * trace.span), 2):
        gaps = np.diff(trace.time[faults])
        if len(faults) < 8 or gaps.sum() < 0.3 * trace.span:
            continue
        in_order = np.mean(np.diff(trace.page[faults]) == 1) >= 0.9
        if in_order and np.std(gaps) < 0.35 * np.mean(gaps):
            beats.append(faults)
    if not beats:
        return None
    chosen = np.zeros(trace.total, bool)
    chosen[np.concatenate(beats)] = True
    period = float(np.median(np.concatenate([np.diff(trace.time[faults]) for faults in beats])))
    rows = counted(len(beats), "row")
    return Finding(
        "Metronome",
        int(chosen.sum()),
        f"{rows} of single pages, {counted(int(chosen.sum()), 'fault')} in all, each the "
        f"neighbour of the one before, one every {clock(period, trace.span)} of the emulated "
        "clock: as of an array that is filled at a constant rate.",
        f"evenly spaced dots: {place_of(trace, chosen)}",
        "so few are harmless; in a service that must not fault, reserve and touch the array at "
        "start.",
    )


def find_read_then_write(trace: Trace) -> Finding | None:
    """At least 20 anonymous pages, 2 % of the faults, fault for reading and then for writing."""
    mask = trace.anonymous & ~trace.gup & ~trace.tried
    second = np.flatnonzero(mask & trace.write & trace.present)
    first = np.flatnonzero(mask & trace.read & ~trace.present)

    def keys(at: np.ndarray) -> np.ndarray:
        return (trace.life[at] << 40) | trace.page[at]

    # Only a read that came before counts: the earliest of each page.
    read_keys, index = np.unique(keys(first), return_index=True)
    write_keys = keys(second)
    at = np.searchsorted(read_keys, write_keys)
    at_safe = np.minimum(at, max(len(read_keys) - 1, 0))
    known = np.zeros(len(second), bool)
    if len(read_keys):
        known = (read_keys[at_safe] == write_keys) & (first[index][at_safe] < second)
    pairs = second[known]
    pairs = pairs[np.unique(keys(pairs), return_index=True)[1]]
    count = len(pairs)
    if count < 20 or count < 0.02 * trace.total:
        return None
    mask = np.zeros(trace.total, bool)
    mask[pairs] = True
    reads = np.isin(keys(first), keys(pairs))
    both = mask.copy()
    both[first[reads]] = True
    return Finding(
        "Zero page first, then a copy",
        2 * count,
        f"{counted(count, 'anonymous page')} fault twice: a read maps the shared zero page, a "
        f"later write replaces it. That is {2 * count:,} faults, {trace.share(2 * count)} of all, "
        "of which half would do.",
        f"blue dots with orange on the same spot: {place_of(trace, both)}",
        "write first what will be written anyway; huge zero pages where the memory is large and "
        "really read only.",
    )


def find_kernel_writes(trace: Trace) -> Finding | None:
    """At least 100 first writes to anonymous pages from the kernel, and 3 % of the faults."""
    # On the stack it is exec that writes, and only once.
    mask = trace.from_kernel & trace.write & trace.anonymous & ~trace.tried
    mask &= trace.kind != STACK
    count = int(mask.sum())
    if count < 100 or count < 0.03 * trace.total:
        return None
    processes = len(np.unique(trace.recording.pid[mask]))
    return Finding(
        "The kernel touches it first",
        count,
        f"{counted(count, 'write')} to anonymous memory, {trace.share(count)} of all, in "
        f"{counted(processes, 'process', 'processes')}, come from the kernel on the process's "
        "behalf: a system call such as `read` fills a fresh buffer, and faults within the copy.",
        place_of(trace, mask),
        "reuse one buffer, already faulted in, from file to file; or map the files instead of "
        "reading them.",
    )


def repeated(trace: Trace) -> np.ndarray:
    """Mark the entries that only repeat the fault before: same thread, page and access.

    The first attempt was under the mapping's lock and the next is not, or is marked `tried`.
    """
    order = np.lexsort((np.arange(trace.total), trace.recording.tid))
    same = np.zeros(trace.total, bool)
    a, b = order[:-1], order[1:]
    alike = trace.page[a] == trace.page[b]
    alike &= trace.recording.tid[a] == trace.recording.tid[b]
    alike &= trace.recording.access[a] == trace.recording.access[b]
    alike &= trace.tried[b] | (trace.vma_lock[a] & ~trace.vma_lock[b])
    same[b[alike]] = True
    return same


def find_repeats(trace: Trace) -> Finding | None:
    """At least 50 entries, and 0.5 %, repeat a fault that had to be tried again."""
    mask = repeated(trace)
    count = int(mask.sum())
    if count < 50 or count < 0.005 * trace.total:
        return None
    tried = int((mask & trace.tried).sum())
    return Finding(
        "Faults that enter twice",
        count,
        f"{counted(count, 'entry', 'entries')}, {trace.share(count)} of all, only repeat the one "
        f"before: {tried:,} waited for a page (`tried`), {count - tried:,} gave up the mapping's "
        "own lock and came back under the lock of the whole address space. The number of faults "
        "is lower than that of entries by as many.",
        f"not to be seen as such, the dots coincide: {place_of(trace, mask)}",
        "a warm page cache for the first sort; the second is decided by the kind of mapping and "
        "is the kernel's to improve.",
    )


DETECTORS: tuple[Callable[[Trace], Finding | None], ...] = (
    find_sustained,
    find_start_up_burst,
    find_start_up_floor,
    find_exec_storm,
    find_dominant_programs,
    find_text_walk,
    find_late_text,
    find_relocations,
    find_fork_copies,
    find_cheap_forks,
    find_heap_ramp,
    find_buffer,
    find_huge_steps,
    find_random_file_walk,
    find_random_table,
    find_metronome,
    find_read_then_write,
    find_kernel_writes,
    find_repeats,
    find_silence,
    find_exit_burst,
)


def find_all(trace: Trace) -> list[Finding]:
    """Run every detector; what concerns most faults comes first, what is empty last."""
    found = [finding for detect in DETECTORS if (finding := detect(trace))]
    return sorted(found, key=lambda finding: -finding.weight)
