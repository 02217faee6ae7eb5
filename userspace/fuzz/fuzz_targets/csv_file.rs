// SPDX-License-Identifier: GPL-2.0-only

//! A CSV: what `drain` writes, damaged or of somebody else.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::csv_file);
