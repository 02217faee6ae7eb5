// SPDX-License-Identifier: GPL-2.0-only

//! A file that code ran in: its build id, segments and symbols.

#![cfg_attr(fuzzing, no_main)]

fault_tracer_fuzz::target!(fault_tracer_fuzz::elf_file);
