// SPDX-License-Identifier: GPL-2.0-only

//! A mapped ring whose positions and records are anything.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::mapped_ring);
