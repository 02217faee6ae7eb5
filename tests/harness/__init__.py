# SPDX-License-Identifier: GPL-2.0-only
"""Runs the suites of tests and counts what they report, in JUnit's form."""
