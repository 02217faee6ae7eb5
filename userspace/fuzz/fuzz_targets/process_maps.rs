// SPDX-License-Identifier: GPL-2.0-only

//! A process's `/proc/PID/maps`, the paths in which may be of any bytes.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::process_maps);
