# SPDX-License-Identifier: GPL-2.0-only
"""Results of tests as JUnit XML: read from any runner, written for those that have none."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

# What XML 1.0 cannot hold.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Case:
    """A test. `failure` is what went wrong, None where it passed; `seconds` is how long it took."""

    name: str
    seconds: float = 0.0
    failure: str | None = None
    skipped: bool = False


@dataclass
class Results:
    """The tests of a suite."""

    cases: list[Case] = field(default_factory=list)

    @property
    def failed(self) -> list[Case]:
        """Those that failed, or never ran."""
        return [case for case in self.cases if case.failure is not None]

    @property
    def skipped(self) -> list[Case]:
        """Those that were not to run here."""
        return [case for case in self.cases if case.skipped]

    @property
    def passed(self) -> int:
        """How many passed."""
        return len(self.cases) - len(self.failed) - len(self.skipped)

    def write(self, path: Path, suite: str) -> None:
        """Writes them to a file, which appears whole."""
        root = ET.Element("testsuites")
        element = ET.SubElement(
            root,
            "testsuite",
            name=suite,
            tests=str(len(self.cases)),
            failures=str(len(self.failed)),
            skipped=str(len(self.skipped)),
        )
        for case in self.cases:
            child = ET.SubElement(
                element, "testcase", classname=suite, name=case.name, time=f"{case.seconds:.3f}"
            )
            if case.failure is not None:
                ET.SubElement(child, "failure").text = UNPRINTABLE.sub("�", case.failure)
            if case.skipped:
                ET.SubElement(child, "skipped")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        ET.ElementTree(root).write(new, encoding="utf-8", xml_declaration=True)
        new.replace(path)


def read(path: Path) -> Results:
    """The results in a file of any runner's. Raises OSError or ET.ParseError."""
    results = Results()
    for case in ET.parse(path).getroot().iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        results.cases.append(
            Case(
                name=name,
                seconds=float(case.get("time") or 0),
                failure=(bad[0].text or bad[0].get("message") or "failed") if bad else None,
                skipped=any(child.tag == "skipped" for child in case),
            )
        )
    return results
