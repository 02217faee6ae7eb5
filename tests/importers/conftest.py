# SPDX-License-Identifier: GPL-2.0-only
"""The trace, and its exports."""

import os
import subprocess

import pytest


@pytest.fixture(name="folder", scope="session")
def a_folder(tmp_path_factory):
    """Where the trace is written, and what the file held after each change."""
    folder = tmp_path_factory.mktemp("trace")
    subprocess.run([os.environ["FIXTURE"], folder / "faults.arrow", folder], check=True)
    return folder


@pytest.fixture(name="trace", scope="session")
def the_trace(folder):
    """A trace with rows of all events."""
    return folder / "faults.arrow"


@pytest.fixture(name="moments", scope="session")
def the_moments(folder):
    """What the trace's file held after each change, in their order."""
    return sorted(folder.glob("[0-9]*.arrow"))


@pytest.fixture(name="export", scope="session")
def an_export(trace, tmp_path_factory):
    """Gives the path of the trace in a format."""
    folder = tmp_path_factory.mktemp("exports")

    def export(form, *options):
        path = folder / f"faults{''.join(options)}.{form}"
        if not path.exists():
            tool = os.environ["FAULT_TRACER"]
            said = subprocess.run(
                [tool, "export", trace, "-f", form, "-o", path, *options],
                check=True,
                capture_output=True,
                text=True,
            )
            assert said.stderr == "", "all symbols are there"
        return path

    return export
