# SPDX-License-Identifier: GPL-2.0-only
"""The trace, and its exports."""

import os
import subprocess

import pytest


@pytest.fixture(name="trace", scope="session")
def the_trace(tmp_path_factory):
    """A trace with rows of all events."""
    path = tmp_path_factory.mktemp("trace") / "faults.arrow"
    subprocess.run([os.environ["FIXTURE"], path], check=True)
    return path


@pytest.fixture(name="export", scope="session")
def an_export(trace, tmp_path_factory):
    """Gives the path of the trace in a format."""
    folder = tmp_path_factory.mktemp("exports")

    def export(form):
        path = folder / f"faults.{form}"
        if not path.exists():
            tool = os.environ["FAULT_TRACER"]
            told = subprocess.run(
                [tool, "export", trace, "-f", form, "-o", path],
                check=True,
                capture_output=True,
                text=True,
            )
            assert told.stderr == "", "all symbols are there"
        return path

    return export
