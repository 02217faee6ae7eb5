// SPDX-License-Identifier: GPL-2.0-only

//! Inputs that are as they should be, from which others are made.

use crate::elf::program;
use fault_tracer_client::{Merge, Record, Records};
use fault_tracer_recorder::Resolver;
use fault_tracer_trace::{csv, file::Writer, Account, Fault, Metadata, PageSize, Row};
use fault_tracer_uapi::{self as uapi, record_type, task_event};

/// The inputs of a target, by name.
///
/// # Panics
///
/// If there is no such target.
pub fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "trace_file" => {
            let whole = trace(&story());
            let cut = whole[..whole.len() * 2 / 3].to_vec();
            vec![("whole", whole), ("cut_off", cut), ("empty", trace(&[]))]
        }
        "csv_file" => vec![("whole", csv_of_two())],
        "records" => vec![("story", bytes_of(&story())), ("nothing", Vec::new())],
        "mapped_ring" => {
            let story = story();
            let used = story.len() as u64 * 8;
            let ring = |shape: u64, position: u64| {
                bytes_of(
                    &[
                        &[shape | 0x400 << 8, used, position, position, 0],
                        &story[..],
                    ]
                    .concat(),
                )
            };
            vec![("discard", ring(5, 0)), ("overwrite", ring(5 | 8, 32))]
        }
        "consumer_page" => {
            let steps = |shape: u64, kinds: &[u64]| {
                let steps = (0..40).map(|n| kinds[n as usize % kinds.len()] | n << 3);
                bytes_of(&std::iter::once(shape).chain(steps).collect::<Vec<_>>())
            };
            vec![
                ("discard", steps(3, &[0, 0, 0, 2, 6, 7])),
                ("overwrite", steps(2 | 8 | 16, &[0, 2, 0, 6, 7])),
                ("hostile", steps(3 | 16, &[0, 3, 2, 4, 6, 5, 7])),
            ]
        }
        "elf_file" => vec![
            ("wide", program(true, true)),
            ("wide_without_build_id", program(true, false)),
            ("narrow", program(false, true)),
            ("script", b"#!/bin/sh\nexec true\n".to_vec()),
        ],
        "process_maps" => vec![("program", MAPS.to_vec()), ("nothing", Vec::new())],
        other => panic!("there is no target {other}"),
    }
}

/// Code of a file, of one that is gone, of none, and what overlaps it; names of odd bytes.
const MAPS: &[u8] = b"\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:01 131104                     /usr/bin/true
55d0c0a02000-55d0c0a07000 r-xp 00002000 fe:01 131104                     /usr/bin/true
55d0c0a03000-55d0c0a04000 r-xp 00000000 fe:01 131105                     /tmp/a b\xff\\012.so (deleted)
7f06ab000000-7f06ab021000 rw-p 00000000 00:00 0
7f06ab021000-7f06ab022000 rwxp 00000000 00:00 0
7ffd3a5fe000-7ffd3a600000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A record of a thread: `words` behind its header, filled up to whole slots.
fn record(kind: u64, tid: u64, words: &[u64]) -> Vec<u64> {
    let length = (words.len() + 1).next_multiple_of(uapi::SLOT_BYTES / 8);
    let slots = (length * 8 / uapi::SLOT_BYTES) as u64;
    let mut record = vec![
        tid | 70 << uapi::HEADER_TGID_SHIFT
            | slots << uapi::HEADER_SLOTS_SHIFT
            | kind << uapi::HEADER_TYPE_SHIFT,
    ];
    record.extend(words);
    record.resize(length, 0);
    record
}

/// Threads that begin, fault in mappings, execute and end; and a loss.
fn story() -> Vec<u64> {
    let text = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let fault = |time: u64, tid: u64, low: u64| {
        let header = tid
            | 70 << uapi::HEADER_TGID_SHIFT
            | (low & 15) << uapi::HEADER_SLOTS_SHIFT
            | record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
        vec![header, time, time << 12 | low, 0x5555_0000_1000 + time]
    };
    let task = |time: u64, event: u32, tid: u64| {
        let words = [
            time,
            1 | u64::from(event) << 32,
            text(b"make\0\0\0\0"),
            0,
            3,
            0,
            7 | tid << 32,
            text(b"/bin/ls\0"),
        ];
        record(record_type::TASK, tid, &words)
    };
    let mapping = |time: u64, number: u64, flags: u64| {
        let words = [
            time,
            0x1000,
            0x9000,
            0x2000,
            77,
            0xfe_0000_0001,
            number | 7 << 16 | flags << 32,
            text(b"/lib/a.\0"),
        ];
        record(record_type::MAPPING, 70, &words)
    };
    [
        task(1, task_event::PRESENT, 70),
        mapping(2, 0, 5 | 16),
        fault(3, 70, 0),
        fault(4, 70, 0),
        task(5, task_event::FORK, 71),
        mapping(6, 1, 3),
        fault(7, 71, 1),
        task(8, task_event::EXEC, 71),
        task(9, task_event::RENAME, 71),
        fault(10, 71, 2),
        record(record_type::LOST, 0, &[11, 12, 5]),
        record(record_type::EXIT, 71, &[13, 9, 1]),
        fault(14, 70, 2047),
        record(record_type::PAD, 0, &[]),
    ]
    .concat()
}

/// The trace of one CPU's records.
fn trace(words: &[u64]) -> Vec<u8> {
    let mut merge: Merge<Record> = Merge::new(1);
    for record in Records::new(words) {
        merge.push(0, record.expect("the story is well formed"));
    }
    let (mut resolver, mut rows) = (Resolver::new(), Vec::new());
    let Ok(()) = merge.finish(|cpu, record| {
        resolver.push(cpu, record, &mut rows);
        Ok::<_, std::convert::Infallible>(())
    });
    resolver.pending(&mut rows);
    resolver.finish(&mut rows);
    let mut file = Vec::new();
    let mut write = |rows: &[Row]| {
        let mut writer = Writer::new(&mut file, &Metadata::default())?;
        for (n, row) in rows.iter().enumerate() {
            writer.push(row)?;
            if n % 4 == 3 {
                writer.flush()?;
            }
        }
        writer.finish()
    };
    write(&rows).expect("memory can be written");
    file
}

fn csv_of_two() -> Vec<u8> {
    let preamble = csv::Preamble {
        version: "1".into(),
        kernel: "Linux".into(),
        command: "ls".into(),
        clock: "CLOCK_MONOTONIC".into(),
        wall_offset_ns: 0,
        wall_error_ns: 0,
        page_size: PageSize::default(),
    };
    let write = || {
        let mut writer = csv::Writer::new(Vec::new(), Some(&preamble))?;
        for time_ns in [5, 6] {
            writer.write(&Fault {
                time_ns,
                address: 0x7f00_0000_0000,
                flags: 0x3ff,
                ..Fault::default()
            })?;
        }
        writer.finish(&Account {
            hits: 2,
            recorded: 2,
            ..Account::default()
        })
    };
    write().expect("memory can be written")
}
