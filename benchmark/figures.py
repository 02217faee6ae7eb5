# SPDX-License-Identifier: GPL-2.0-only
"""Medians, spreads and differences of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Summary(TypedDict):
    """Repetitions of one measurement."""

    median: float
    least: float
    most: float
    repetitions: int


def summary(values: Sequence[float]) -> Summary:
    """Fails where nothing was measured: there is no figure to be made of it."""
    if not values:
        raise ValueError("nothing was measured")
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "repetitions": len(values),
    }


def scaled(values: Sequence[float], by: float) -> list[float]:
    """Each value divided: nanoseconds of rounds into nanoseconds of faults."""
    return [value / by for value in values]


def ratios(values: Sequence[float], to: Sequence[float]) -> list[float]:
    """Each value over its partner, the one measured next to it in time."""
    return [value / other for value, other in zip(values, to, strict=True)]


def percent_more(value: float, than: float) -> float:
    """2.0 where `value` is 2 % larger than `than`."""
    return 100 * (value / than - 1)


def slope(more: float, less: float, events: float) -> float | None:
    """What each event adds, where `less` is the same without the events; None without events."""
    return None if events <= 0 else (more - less) / events
