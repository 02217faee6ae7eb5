// SPDX-License-Identifier: GPL-2.0-only

//! A trace file: what `record` writes, damaged or of somebody else.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::trace_file);
