// SPDX-License-Identifier: GPL-2.0-only

//! The consumer page of the module's ring, written by somebody hostile.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::consumer_page);
