// SPDX-License-Identifier: GPL-2.0-only

//! What a drain brings, and all that becomes of it.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::records);
