# SPDX-License-Identifier: GPL-2.0-only
"""The harness understands libtest, and loses no test, whatever becomes of its guest."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from harness import guest, junit
from harness.junit import Case, Results

# A guest that acts on the names of the tests it is given; those that it has run are in a file
# beside it.
STAND_IN = r"""#!/bin/bash
while [[ $1 != --exact ]]; do shift; done
shift
state=$(dirname "$0")/seen
for test; do
    echo "$test" >>"$state"
    printf 'test %s ... ' "$test"
    case $test in
    good*) echo ok ;;
    bad*) echo FAILED ;;
    noisy*) printf 'a child says something\n'; echo ok ;;
    panic*) exit 123 ;;
    hang*) exec sleep 1000 ;;
    esac
done
echo
echo 'test result: ok. 1 passed; 0 failed'
for test; do [[ $test != bad* ]] || exit 101; done
exit "${STATUS-0}"
"""


@pytest.fixture(name="run")
def a_run(tmp_path: Path):
    """Runs tests in stand-ins for guests; returns what failed, by name, and which were begun."""
    program = tmp_path / "vm"
    program.write_text(STAND_IN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(*tests: str) -> tuple[dict[str, str | None], list[str]]:
        cases = guest.run([str(program)], ["program"], tests, io.BytesIO())
        assert [case.name for case in cases] == list(tests)
        seen = tmp_path / "seen"
        return {case.name: case.failure for case in cases}, seen.read_text().split()

    return run


def test_outcomes_are_those_of_libtest(run) -> None:
    failures, _ = run("good1", "bad1", "noisy1", "good2")
    assert failures == {"good1": None, "bad1": "failed", "noisy1": None, "good2": None}


def test_what_a_guest_took_with_it_is_run_in_another(run) -> None:
    failures, seen = run("good1", "panic1", "good2", "good3")
    assert "panic1" in failures and "in this test" in (failures.pop("panic1") or "")
    assert failures == {"good1": None, "good2": None, "good3": None}
    assert seen == ["good1", "panic1", "good2", "good3"]


def test_tests_that_never_ran_are_named(run) -> None:
    failures, seen = run("panic1", "panic2", "panic3", "good1")
    assert "good1" not in seen
    assert "did not run" in (failures["good1"] or "")
    assert all(failures.values())


def test_a_guest_that_is_silent_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "SILENCE", 1)
    failures, _ = run("good1", "hang1", "good2")
    assert "silent" in (failures["hang1"] or "")
    assert failures["good1"] is None and failures["good2"] is None


def test_a_status_that_no_test_explains_is_a_failure(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATUS", "123")
    failures, _ = run("good1", "good2")
    assert failures["good1"] is None and "status 123" in (failures["good2"] or "")


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results([Case("a", 1.5), Case("b", 0, "why\x00"), Case("c", 0, None, True)])
    file = tmp_path / "folder" / "results.xml"
    results.write(file, "suite")
    read = junit.read(file)
    assert (read.passed, len(read.failed), len(read.skipped)) == (1, 1, 1)
    assert read.failed[0].name == "suite::b" and "why" in (read.failed[0].failure or "")
