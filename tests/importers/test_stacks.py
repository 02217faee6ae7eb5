# SPDX-License-Identifier: GPL-2.0-only
"""Exports that are stacks, opened by gprof2dot."""

import io
import itertools
import os
from collections import Counter

import gprof2dot
import pytest
from expected import SYMBOL, callers, completed, fault, symbol


@pytest.fixture(autouse=True)
def how_gprof2dot_counts(monkeypatch):
    """What its command line would set."""
    monkeypatch.setattr(gprof2dot, "totalMethod", "callratios", raising=False)


def test_perf_script_has_each_fault(export):
    profile = gprof2dot.PerfParser(io.StringIO(export("perf-script").read_text())).parse()
    assert profile[gprof2dot.SAMPLES] == len(completed())
    functions = {function.name: function for function in profile.functions.values()}
    mine = functions[SYMBOL]
    assert mine[gprof2dot.SAMPLES] == sum(number % 2 for number in completed())
    assert mine.module == os.path.basename(os.environ["FIXTURE"])
    # What became of a fault is the outermost frame, of one event for all.
    fates = Counter(fault(number)["fate"] for number in completed())
    for fate, count in fates.items():
        assert functions[f"{fate}-fault"][gprof2dot.TOTAL_SAMPLES] == count
    lines = export("perf-script").read_text().splitlines()
    events = {line.split()[-1] for line in lines if line and not line.startswith("\t")}
    assert events == {"page-faults:"}


def test_folded_stacks_count_the_faults(export):
    profile = gprof2dot.CollapseParser(io.StringIO(export("folded").read_text())).parse()
    totals, calls = Counter(), Counter()
    for number in completed():
        columns = fault(number)
        place = symbol(number)[0] or "[unknown]"
        between = reversed(callers(number) or [columns["mapping"]])
        stack = [columns["process"], columns["thread"], *between, place]
        totals.update(set(stack))
        calls.update(itertools.pairwise(stack))
    assert profile[gprof2dot.SAMPLES] == len(completed())
    functions = profile.functions.values()
    assert totals == {function.name: function[gprof2dot.TOTAL_SAMPLES] for function in functions}
    assert calls == {
        (function.name, callee): call[gprof2dot.SAMPLES2]
        for function in functions
        for callee, call in function.calls.items()
    }
