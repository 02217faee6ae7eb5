// SPDX-License-Identifier: GPL-2.0-only

//! The parsers of bytes that come from outside, each as a function that any bytes can be given to. It panics
//! where reading them does, or where what was read cannot be.
//!
//! `tests/` runs them on the corpus and on mutations of it that are always the same. To look for inputs that
//! reach new code, with a nightly compiler, cargo-fuzz and a C++ compiler, in this folder:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir . TARGET corpus/TARGET
//! ```
//!
//! An input that was found is tried again by `cargo run -p fault-tracer-fuzz --bin TARGET -- FILE`.

mod code;
mod elf;
mod rings;
mod seeds;

use std::io;

use fault_tracer_analysis::Proof;
use fault_tracer_client::{Merge, Record, Records};
use fault_tracer_recorder::Resolver;
use fault_tracer_trace::{
    csv,
    export::{export, Ended, Format, Options, Weight},
    file::{Reader, Writer},
    Metadata, Row,
};

pub use code::{elf_file, process_maps};
pub use rings::{consumer_page, mapped_ring};
pub use seeds::seeds;

/// A target: its name, which is that of its program and of its folder in the corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("trace_file", trace_file),
    ("csv_file", csv_file),
    ("records", records),
    ("mapped_ring", mapped_ring),
    ("consumer_page", consumer_page),
    ("elf_file", elf_file),
    ("process_maps", process_maps),
];

/// The program of a target.
#[macro_export]
macro_rules! target {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $target(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for file in std::env::args_os().skip(1) {
                $target(&std::fs::read(file)?);
            }
            Ok(())
        }
    };
}

/// The rows of a trace, as far as they can be read.
///
/// # Panics
///
/// If something comes behind the error, or that says nothing.
fn rows_of(bytes: &[u8]) -> Option<(Metadata, Vec<Row>)> {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let metadata = reader.metadata().clone();
    let mut rows = Vec::new();
    while let Some(row) = reader.next() {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(reader.next().is_none(), "rows behind the error");
            }
        }
    }
    Some((metadata, rows))
}

/// A trace file: what is in it is balanced and exported too.
///
/// # Panics
///
/// As said above.
pub fn trace_file(bytes: &[u8]) {
    let Some((metadata, rows)) = rows_of(bytes) else {
        return;
    };
    let mut balance = Proof::new(metadata.account).with_selection(!metadata.selection.is_empty());
    for row in &rows {
        balance.add(row);
    }
    let _ = balance.close();
    for format in Format::ALL {
        for options in [false, true].map(|all| Options {
            events: all,
            comments: all,
            weight: Weight::default(),
            microseconds: all,
        }) {
            let rows = rows.iter().cloned().map(Ok::<_, io::Error>);
            let ended = export(
                format,
                options,
                &metadata,
                rows,
                &mut (),
                None,
                &mut io::sink(),
            );
            assert!(matches!(ended, Ended::Rows(None)), "{ended:?}");
        }
    }
}

/// A CSV.
///
/// # Panics
///
/// As said above.
pub fn csv_file(bytes: &[u8]) {
    match csv::Reader::new(bytes) {
        Ok(mut reader) => {
            while let Some(fault) = reader.next() {
                if let Err(error) = fault {
                    assert!(!error.to_string().is_empty());
                    assert!(reader.next().is_none(), "faults behind the error");
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The words of an input; what is left over is left out.
fn words_of(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    words
        .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
        .collect()
}

/// Records of two CPUs: merged, resolved, written and read back.
///
/// # Panics
///
/// If what is read is not what was written, and as said above.
pub fn records(bytes: &[u8]) {
    let words = words_of(bytes);
    let mut merge: Merge<Record> = Merge::new(2);
    let half = words.len() / 2;
    for (cpu, words) in [(0, &words[..half]), (1, &words[half..])] {
        let mut records = Records::new(words);
        while let Some(record) = records.next() {
            match record {
                Ok(record) => merge.push(cpu, record),
                Err(damaged) => {
                    assert!(!damaged.to_string().is_empty());
                    assert!(records.next().is_none(), "records behind the damage");
                }
            }
        }
    }
    let mut resolver = Resolver::new();
    let mut rows = Vec::new();
    let Ok(()) = merge.finish(|cpu, record| {
        resolver.push(cpu, record, &mut rows);
        Ok::<_, std::convert::Infallible>(())
    });
    resolver.finish(&mut rows);
    let mut file = Vec::new();
    let written = Writer::new(&mut file, &Metadata::default()).and_then(|mut writer| {
        for row in &rows {
            writer.push(row)?;
        }
        writer.finish()
    });
    written.expect("memory can be written");
    let (_, back) = rows_of(&file).expect("it has just been written");
    assert_eq!(back.len(), rows.len());
}
