# SPDX-License-Identifier: GPL-2.0-only
"""The interactive page does what it says: read with the pointer, with keys, and by its texts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import Plot, until

Show = Callable[..., Plot]

SMALL = 20_000
# As ft-synthetic makes them.
SPAN_NS = 20_000_000_000
LONE_NS = SPAN_NS // 50 + 1
CLUSTER_NS = SPAN_NS // 2
CLUSTER = 1000


def zoom_to(plot: Plot, start_ns: float, end_ns: float) -> None:
    plot.js(f"f.setTime({start_ns}, {end_ns})")
    plot.ready()


def test_hover_reads_a_known_fault(show: Show) -> None:
    plot = show("program", SMALL)
    zoom_to(plot, LONE_NS - 20_000, LONE_NS + 20_000)
    panel = plot.panel("main stack")
    # The lone fault is 0x7ffd12345678; the page below the highest of that stack's.
    pages = plot.js(f"f.M.panels[{panel}].pages")
    for page in range(pages):
        plot.page.mouse.move(*plot.place(LONE_NS, panel, page + 0.5))
        plot.page.wait_for_timeout(120)
        if plot.page.locator("#bubble").is_visible():
            break
    facts = plot.bubble()
    assert facts["address"] == "0x7ffd12345678"
    assert facts["mapping"] == "[stack]"
    assert facts["kind"] == "spurious, execute"
    assert facts["fate"] == "major, 2 attempts"
    assert facts["duration"].endswith("(123,456 ns)")
    assert facts["process"] == "worker 1000"
    assert facts["called by"] == "not known ← [worker]"
    assert facts["thread"] == "worker 1000"
    assert facts["time"].startswith("400.000001 ms (2023-11-14 22:13:25.400000001 UTC)")


def test_a_kind_is_switched_off_and_on(show: Show) -> None:
    plot = show("program", SMALL)
    plot.page.select_option("#colour", "kind")
    before = plot.legend()
    assert before["swap-in"] == CLUSTER
    assert sum(before.values()) == SMALL
    whole = plot.box(215, 45, 1100, 770)
    plot.page.get_by_role("button", name="swap-in").click()
    plot.ready()
    assert plot.page.get_by_role("button", name="swap-in").get_attribute("aria-pressed") == "false"
    assert plot.legend() == before
    assert plot.box(215, 45, 1100, 770) == whole - CLUSTER
    plot.page.get_by_role("button", name="swap-in").click()
    plot.ready()
    assert plot.box(215, 45, 1100, 770) == whole


def cluster_box(plot: Plot) -> tuple[float, float, float, float]:
    """Return a box around the cluster's 64 pages and its 100 microseconds."""
    panel = plot.panel("table.db")
    segment = plot.js(
        f"f.M.panels[{panel}].segments.find(([, pages, page]) => "
        "parseInt(page, 16) <= 40000 && parseInt(page, 16) + pages > 40063)"
    )
    first = segment[0] + 40_000 - int(segment[2], 16)
    x0, y1 = plot.place(CLUSTER_NS - 100, panel, first)
    x1, y0 = plot.place(CLUSTER_NS + CLUSTER * 100, panel, first + 64)
    return x0, y0, x1, y1


def test_page_sizes_are_told(show: Show) -> None:
    plot = show("program", SMALL)
    plot.page.select_option("#colour", "page size")
    plot.ready()
    legend = plot.legend()
    assert sum(legend.values()) == SMALL
    classes = plot.js("f.M.classes.map((c) => [c[6], c[5]])")
    by_size = {size: sum(n for s, n in classes if s == size) for size in (4096, 65536, None)}
    assert legend == {
        "4 KiB": by_size[4096],
        "32 and 64 KiB": by_size[65536],
        "not known": by_size[None],
    }
    assert min(legend.values()) > 0
    plot.page.get_by_role("button", name="32 and 64 KiB").click()
    plot.ready()
    assert plot.faults_in_window() == SMALL - by_size[65536]
    # Switched off, it stays so in another colour.
    plot.page.select_option("#colour", "access")
    plot.ready()
    assert sum(plot.legend().values()) == SMALL - by_size[65536]


@pytest.mark.parametrize("faults", [SMALL, 3_000_000])
def test_symbols_and_callers_are_colours(show: Show, faults: int) -> None:
    plot = show("program", faults)
    plot.page.select_option("#colour", "symbol")
    plot.ready()
    symbols = plot.legend()
    # The trace's only object has no symbols here: it stands for all of its code. The cluster has
    # none, nor has the lone fault, which has callers alone.
    assert set(symbols) == {"worker", "not known"}
    assert sum(symbols.values()) == faults
    assert symbols["not known"] == plot.js("f.M.codesUnknown") + 1
    assert plot.js("f.drawn.points") > 1000
    plot.page.get_by_role("button", name="not known").click()
    plot.ready()
    assert plot.faults_in_window() == symbols["worker"]
    plot.page.get_by_role("button", name="not known").click()
    plot.page.select_option("#colour", "caller")
    plot.ready()
    callers = plot.legend()
    # The lone fault's caller has no name.
    assert callers == {
        "no caller": symbols["worker"],
        "not known": faults - symbols["worker"],
    }
    assert sum(callers.values()) == faults
    link = plot.js("location.hash")
    until(lambda: "colour=caller" in plot.js("location.hash"), f"the link, not {link}")


@pytest.mark.parametrize("faults", [SMALL, 150_000])
def test_the_still_picture_has_the_same_pixels(show: Show, faults: int) -> None:
    plot = show("program", faults)
    assert plot.js("f.drawn.level") == -1
    painted, differ = plot.pixels_that_differ()
    assert painted > 10_000
    assert differ == 0
    # Another window is another picture.
    plot.js("f.setTime(0, 1e9)")
    plot.ready()
    assert plot.pixels_that_differ()[1] > 1000


def test_zoom_by_wheel_to_a_known_cluster(show: Show) -> None:
    plot = show("program", SMALL)
    panel = plot.panel("table.db")
    for _ in range(60):
        x, y = plot.place(CLUSTER_NS + CLUSTER * 50, panel, 0)
        plot.page.mouse.move(x, y - 10)
        plot.page.mouse.wheel(0, -300)
        plot.page.wait_for_timeout(15)
        if plot.js("f.S.t1 - f.S.t0") < 400_000:
            break
    plot.ready()
    assert plot.js("f.S.t0") < CLUSTER_NS < plot.js("f.S.t1")
    assert plot.js("f.drawn.level") == -1
    x0, y0, x1, y1 = cluster_box(plot)
    assert plot.box(x0 - 2, y0 - 2, x1 + 2, y1 + 2) >= CLUSTER
    kinds = plot.page.locator("#summary .top").first.inner_text()
    assert re.search(r"swap-in\s+1,000", kinds)


@pytest.mark.parametrize("faults", [SMALL, 1_000_000])
def test_boxes_are_exact_at_each_level(show: Show, faults: int) -> None:
    plot = show("program", faults)
    levels = set()
    span = plot.js("f.M.span + 1")
    for part in (1.0, 0.3, 0.05, 0.002):
        # While the window moves, a coarser level may be drawn than at rest.
        window = f"{span * (0.5 - part / 2)}, {span * (0.5 + part / 2)}"
        levels.add(plot.js(f"(f.setTime({window}), f.drawNow(), f.drawn.level)"))
        # Halves of the window, cut anywhere, add up to the whole window.
        left = plot.box(210, 30, 640, 800)
        right = plot.box(640, 30, 1125, 800)
        whole = plot.faults_in_window()
        assert whole > 0
        assert left + right == whole
        if part == 1.0:
            assert whole == faults
    assert -1 in levels
    if faults > SMALL:
        assert levels != {-1}


def test_a_box_of_one_cell_is_counted_from_single_faults(show: Show) -> None:
    plot = show("program", SMALL)
    plot.page.select_option("#colour", "kind")
    plot.ready()
    x0, y0, x1, y1 = cluster_box(plot)
    # The overview: the cluster is less than a pixel wide.
    assert x1 - x0 < 1
    plot.page.fill("#filter-mapping", "table.db")
    plot.ready()
    assert plot.legend()["swap-in"] == CLUSTER
    assert plot.box(x0 - 3, 41, x1 + 3, 775) >= CLUSTER


def test_filters(show: Show) -> None:
    plot = show("program", SMALL)
    total = sum(plot.legend().values())
    assert total == SMALL

    def with_filter(key: str, text: str) -> int:
        plot.page.fill(f"#filter-{key}", text)
        plot.ready()
        count = sum(plot.legend().values())
        assert plot.faults_in_window() == count
        plot.page.fill(f"#filter-{key}", "")
        plot.ready()
        return count

    of_process = [with_filter("process", pid) for pid in ("1000", "2000", "2001")]
    assert all(of_process)
    assert sum(of_process) == SMALL
    assert with_filter("process", "sh") == of_process[2]
    assert 0 < with_filter("thread", "pool-3") < SMALL
    assert with_filter("thread", "1003") == with_filter("thread", "pool-3")
    assert 0 < with_filter("mapping", "libcrypto") < SMALL
    assert with_filter("text", "libcrypto") == with_filter("mapping", "libcrypto")
    # Code is in no mark: the single faults are asked.
    assert with_filter("text", "/usr/bin/worker") > with_filter("mapping", "/usr/bin/worker")


def test_a_link_restores_the_view(show: Show) -> None:
    plot = show("program", SMALL)
    plot.page.select_option("#colour", "fate")
    plot.page.get_by_role("button", name="major").click()
    plot.page.fill("#filter-mapping", "lib")
    zoom_to(plot, 1e9, 3e9)
    until(
        lambda: all(part in plot.js("location.hash") for part in ("mapping=lib", "t=1000000000")),
        "the link",
    )
    link = plot.js("location.hash.slice(1)")
    state = "[f.S.t0, f.S.t1, f.S.colour, f.S.mapping, [...f.S.off.get('fate')].join()]"
    again = show("program", SMALL, link=f"#{link}")
    assert again.js(state) == plot.js(state) == [1e9, 3e9, "fate", "lib", "major"]
    assert again.legend() == plot.legend()
    # Nonsense is left out.
    odd = show("program", SMALL, link="#t=5~1&y=999~a~b&fold=x&colour=%ff&off-kind=%25zz&hide=-1")
    assert odd.js("[f.S.t0, f.S.t1, f.S.colour]") == [0, odd.js("f.M.span + 1"), "access"]


def test_panels_are_sorted(show: Show) -> None:
    plot = show("program", SMALL)
    plot.page.locator("summary").last.click()
    labels, faults = plot.js("[f.M.panels.map((p) => p.label), f.M.panels.map((p) => p.faults)]")
    tops = "f.M.panels.map((_, panel) => f.yOf(panel, f.M.panels[panel].pages))"

    def order() -> list[int]:
        at = plot.js(tops)
        return sorted(range(len(labels)), key=at.__getitem__)

    assert order() == list(range(len(labels)))
    plot.page.select_option("#sort", "faults")
    plot.ready()
    assert [faults[panel] for panel in order()] == sorted(faults, reverse=True)
    until(lambda: "sort=faults" in plot.js("location.hash"), "the link")
    assert plot.faults_in_window() == SMALL
    plot.page.select_option("#sort", "name")
    plot.ready()
    assert [labels[p].lower() for p in order()] == sorted(label.lower() for label in labels)
    assert plot.pixels_that_differ()[1] > 1000


def test_processes_apart(show: Show) -> None:
    plot = show("program", SMALL, "--apart")
    labels = plot.js("f.M.panels.map((panel) => panel.label)")
    assert {"worker 1000: heap", "worker 2000: heap", "sh 2001: sh text"} <= set(labels)
    of_process = plot.js(
        "f.M.panels.reduce((sum, p) => sum + (p.label.startsWith('sh 2001: ') ? p.faults : 0), 0)"
    )
    plot.page.fill("#filter-process", "2001")
    plot.ready()
    assert sum(plot.legend().values()) == of_process > 0
    panel = plot.panel("worker 2000: heap")
    assert plot.js(f"f.M.panels[{panel}].spaces") == 1


def test_trends_lead_to_their_places(show: Show) -> None:
    plot = show("program", SMALL, "--trends")
    trends = plot.js("f.M.trends")
    places = plot.page.locator("#trends li button")
    assert places.all_inner_texts() == [text for text, *_ in trends]
    assert len(trends) > 2
    assert any(mapping for *_, mapping in trends)
    for number, (_, detail, start, end, mapping) in enumerate(trends):
        assert detail in places.nth(number).get_attribute("title")
        places.nth(number).click()
        plot.ready()
        assert plot.js("[f.S.t0, f.S.t1, f.S.mapping]") == [start, end + 1, mapping or ""]
        assert sum(plot.legend().values()) > 0
    # Without being asked, it looks for none.
    assert show("program", SMALL).page.locator("#trends").count() == 0


def test_trends_of_a_part_of_the_time_have_marks(show: Show) -> None:
    plot = show("burst", SMALL, "--trends")
    trends = plot.js("f.M.trends")
    of_a_part = [
        (text, number)
        for number, (text, _, start, end, _) in enumerate(trends, 1)
        if start > 0 or end < plot.js("f.M.span")
    ]
    assert any(text.startswith("A burst at the end") for text, _ in of_a_part)
    # They stand above the strip, with the numbers of the list.
    marks = plot.js("f.trendMarks().map(({ trend, number, x }) => [trend[0], number, x])")
    assert sorted((text, number) for text, number, _ in marks) == sorted(of_a_part)
    text, number, x = marks[0]
    below = plot.js("f.plotBottom() + 6")
    plot.page.mouse.move(x, below)
    assert plot.page.locator("#stage").get_attribute("title") == text
    plot.page.mouse.click(x, below)
    plot.ready()
    _, _, start, end, _ = trends[number - 1]
    assert plot.js("[f.S.t0, f.S.t1]") == [start, end + 1]


def test_back_and_forward(show: Show) -> None:
    plot = show("program", SMALL)
    zoom_to(plot, 1e9, 3e9)
    until(lambda: "t=" in plot.js("location.hash"), "the link")
    zoom_to(plot, 1.5e9, 2e9)
    until(lambda: "t=1500000000" in plot.js("location.hash"), "the link")
    plot.page.keyboard.press("Backspace")
    until(lambda: plot.js("f.S.t0") == 1e9, "one step back")
    plot.page.keyboard.press("Backspace")
    until(lambda: plot.js("f.S.t0") == 0, "two steps back")
    plot.page.keyboard.press("f")
    until(lambda: plot.js("f.S.t0") == 1e9, "one step forward")


def test_keyboard_alone(show: Show) -> None:
    plot = show("program", SMALL)
    keys = plot.page.keyboard
    keys.press("+")
    keys.press("ArrowRight")
    assert 0 < plot.js("f.S.t0") < plot.js("f.S.t1")
    keys.press("c")
    assert plot.js("f.S.colour") == "kind"
    keys.press("1")
    assert plot.js("f.S.off.get('kind').size") == 1
    keys.press("1")
    keys.press("PageDown")
    keys.press("Shift++")
    assert plot.js("f.S.y.size") == 1
    keys.press("Enter")
    assert plot.js("f.S.folded.size") == 1
    keys.press("Enter")
    keys.press("o")
    assert plot.js("f.S.hidden.size") == plot.js("f.M.panels.length") - 1
    keys.press("o")
    keys.press("0")
    keys.press("w")
    assert plot.js("f.S.clock") == "wall"
    # The lone fault by cross-hairs: a window of it alone, and down until it is met.
    zoom_to(plot, LONE_NS - 2000, LONE_NS + 2000)
    keys.press("x")
    for _ in range(45):
        keys.press("ArrowUp")
    for _ in range(80):
        plot.page.wait_for_timeout(100)
        if plot.page.locator("#bubble").is_visible():
            break
        keys.press("ArrowDown")
    assert plot.bubble()["address"] == "0x7ffd12345678"
    keys.press("ArrowLeft")
    keys.press("ArrowUp")
    keys.press("b")
    for _ in range(3):
        keys.press("ArrowRight")
        keys.press("ArrowDown")
    keys.press("b")
    assert plot.faults_in_box() == 1
    keys.press("z")
    plot.ready()
    assert plot.js("f.S.t1 - f.S.t0") < 1000
    keys.press("?")
    assert plot.page.locator("#help").is_visible()
    keys.press("Escape")
    assert not plot.page.locator("#help").is_visible()
    keys.press("/")
    assert plot.page.evaluate("() => document.activeElement.id") == "filter-text"


def colour_at(plot: Plot, x: int, y: int) -> list[int]:
    return plot.page.evaluate(
        "([x, y]) => [...document.querySelector('canvas').getContext('2d')"
        ".getImageData(x, y, 1, 1).data].slice(0, 3)",
        [x, y],
    )


def test_light_and_dark(show: Show) -> None:
    light = show("one")
    assert min(colour_at(light, 5, 5)) > 200
    dark = show("one", color_scheme="dark")
    assert max(colour_at(dark, 5, 5)) < 60
    dark.page.keyboard.press("d")
    dark.ready()
    assert min(colour_at(dark, 5, 5)) > 200


def test_scripts_blocked(show: Show) -> None:
    plot = show("program", SMALL, wait=False, java_script_enabled=False)
    assert plot.page.locator("#still svg").is_visible()
    assert plot.page.locator("#still image").count() == 1
    assert "Scripts are blocked" in plot.page.locator("#noscript").inner_text()
    assert "libcrypto.so.3" in plot.page.locator("#still").inner_text()


def test_hostile_names(show: Show) -> None:
    plot = show("hostile", 0, "--trends")
    for colour in ("thread", "process", "program", "kind"):
        plot.page.select_option("#colour", colour)
        plot.ready()
        assert sum(plot.legend().values()) == 400
    plot.page.locator("summary").last.click()
    plot.page.keyboard.press("s")
    assert plot.faults_in_box() == 400
    for x in range(215, 1100, 40):
        for y in range(50, 700, 60):
            plot.page.mouse.move(x, y)
    plot.page.wait_for_timeout(200)
    assert plot.page.evaluate("() => window.hacked") is None
    # All elements are ours: none came out of a name.
    assert plot.page.locator("img, svg[onload], #side script").count() == 0
    assert "</script><script>" in plot.page.locator("h1").inner_text()
    assert plot.page.title().startswith("</script>")


def test_hostile_names_without_scripts(show: Show) -> None:
    plot = show("hostile", wait=False, java_script_enabled=False)
    assert plot.page.locator("#still svg").count() == 1
    assert plot.page.locator("img").count() == 0


def test_a_million(show: Show) -> None:
    plot = show("program", 1_000_000)
    assert sum(plot.legend().values()) == 1_000_000
    plot.page.select_option("#colour", "duration")
    assert sum(plot.legend().values()) == 1_000_000
    plot.page.select_option("#colour", "thread")
    assert sum(plot.legend().values()) == 1_000_000
    assert plot.js("f.T.missing.map((m) => m[2])") == [321, 21]


def test_many_processes(show: Show) -> None:
    plot = show("processes", 1_000_000)
    assert plot.js("f.T.threads.length") == 100_000
    plot.page.fill("#filter-process", "54321")
    plot.ready()
    assert sum(plot.legend().values()) == 10
    plot.page.fill("#filter-process", "cc1")
    plot.ready()
    assert sum(plot.legend().values()) == 250_000


def test_one_fault(show: Show) -> None:
    plot = show("one")
    assert plot.legend() == {"write": 1}
    panel = plot.panel("one text") if plot.panel("one text") >= 0 else 0
    plot.page.mouse.move(*plot.place(0.001, panel, 0.5))
    facts = plot.bubble()
    assert facts["address"] == "0x7f0000001234"
    assert facts["mapping"] == "/bin/one + 0x1234"


def test_pages_are_those_of_the_traced_machine(show: Show) -> None:
    plot = show("large-pages")
    assert plot.js("f.M.panels[0].pages") == 2
    for steps, page, offset in [(0, 0, 0x11234), (1000, 0, 0x1F234), (2000, 1, 0x20234)]:
        plot.page.mouse.move(*plot.place(steps, 0, page + 0.5))
        want = f"0x{0x7F0000000000 + offset:x}"
        facts = until(lambda want=want: (f := plot.bubble())["address"] == want and f, want)
        assert facts["mapping"] == f"/bin/one + 0x{offset:x}"
    plot.page.keyboard.press("s")
    sums = plot.sums()
    assert (sums["pages"], sums["bytes"]) == ("2 (128 KiB)", "192 KiB")


def test_odd_addresses_and_times(show: Show) -> None:
    plot = show("odd")
    assert sum(plot.legend().values()) == 700
    addresses = set()
    for panel in range(plot.js("f.M.panels.length")):
        for page in range(min(40, plot.js(f"f.M.panels[{panel}].pages"))):
            top = plot.js(f"f.M.panels[{panel}].pages") - 1 - page
            for at in (page, top):
                plot.page.mouse.move(*plot.place(350_000, panel, at + 0.5))
                plot.page.wait_for_timeout(8)
                if plot.page.locator("#bubble").is_visible():
                    facts = plot.bubble()
                    addresses.add(facts["address"])
                    assert "(1960-01-01 00:00:0" in facts["time"]
                    assert facts["process"] == "not known 1000"
    assert "0xffffffffffffffff" in addresses
    assert "0xfffffffffff123" in addresses
    assert "0xffff888000000abc" in addresses


def test_less_detail(show: Show) -> None:
    plot = show("program", 1_000_000, "--max-size", "4")
    assert "Left out" in plot.page.locator(".lost").nth(1).inner_text()
    assert sum(plot.legend().values()) == 1_000_000
    plot.page.keyboard.press("s")
    text = until(lambda: plot.page.locator("#summary").inner_text(), "a word")
    assert "were left out of this page" in text
