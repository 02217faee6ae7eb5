# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark: what fault-tracer and other tracers of page faults cost. `scripts/bench` runs it.

`guest` is what runs in the sandbox; `per_fault`, `wall_time`, `rates` and `growth` are its parts;
they use `toucher` (who is traced), `tracers` (who traces) and `peers` (what those wrote). `report`
makes tables of the figures, on the host. `figures` is the arithmetic of both.
"""
