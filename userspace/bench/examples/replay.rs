// SPDX-License-Identifier: GPL-2.0-only

//! Does to faults what the recorder does, without a module: to count the instructions of each of its parts.
//!
//! ```console
//! cargo build --release --package fault-tracer-bench --example replay
//! valgrind --tool=callgrind --toggle-collect='*replay::replay*' target/release/examples/replay random 98304
//! valgrind --tool=callgrind --toggle-collect='*replay::rewrite*' target/release/examples/replay FILE
//! valgrind --tool=callgrind --toggle-collect='*replay::compacted*' target/release/examples/replay FILE 800
//! ```
//!
//! `random` faults are those of one thread that writes to the pages of 16 MiB in a random order, as in the benchmark;
//! of a trace FILE, rows are written anew: that is what the columns and their compression cost. With a number behind it,
//! so many rows are flushed together, as in a second of a recording, and the batches are compacted then.

use std::{
    env, fs,
    io::{self, BufReader, Write},
};

use anyhow::{bail, Context as _, Result};
use fault_tracer_client::{uapi, Merge, Record, Records, Timed as _};
use fault_tracer_recorder::Resolver;
use fault_tracer_trace::{
    file::{compact, Changeable, Destination, Reader, Writer},
    Metadata, Row,
};

/// Counts what is written.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for Counter {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        None
    }
}

/// A file in memory, into which batches are appended quickly.
struct Memory(Vec<u8>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for Memory {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        Some(self)
    }
}

impl Changeable for Memory {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes as usize);
        Ok(())
    }
}

const PID: u64 = 70;
const PAGES: u64 = 4096;
const MEMORY: u64 = 0x7f00_0000_0000;
/// Words of the buffer through which rings are read.
const BUFFER: usize = 64 * 1024;

/// A record of the thread: `words` behind its header, filled up to whole slots.
fn record(kind: u64, words: &[u64]) -> Vec<u64> {
    let length = (words.len() + 1).next_multiple_of(uapi::SLOT_BYTES / 8);
    let slots = (length * 8 / uapi::SLOT_BYTES) as u64;
    let header = PID
        | PID << uapi::HEADER_TGID_SHIFT
        | slots << uapi::HEADER_SLOTS_SHIFT
        | kind << uapi::HEADER_TYPE_SHIFT;
    let mut record = vec![header];
    record.extend(words);
    record.resize(length, 0);
    record
}

/// What the thread's ring would hold, in buffers.
fn random_faults(faults: u64) -> Vec<Vec<u64>> {
    use uapi::{fault_flag as flag, mapping_flag, record_type};
    let mapping = |start: u64, end: u64, rights: u32, number: u64, path: &[u8; 8]| {
        let length = path.iter().filter(|&&byte| byte != 0).count() as u64;
        let packed = number | length << 16 | u64::from(rights) << 32;
        let path = u64::from_le_bytes(*path);
        record(
            record_type::MAPPING,
            &[1, start, end, 0, 0, 0, packed, path],
        )
    };
    let code = mapping_flag::READ | mapping_flag::EXEC | mapping_flag::FILE;
    let data = mapping_flag::READ | mapping_flag::WRITE;
    let comm = u64::from_le_bytes(*b"touch\0\0\0");
    let mut buffers = vec![[
        record(record_type::TASK, &[1, 1, comm, 0, 0, 0, PID << 32]),
        mapping(0x40_0000, 0x50_0000, code, 0, b"/bin/abc"),
        mapping(MEMORY, MEMORY + (PAGES << 12), data, 1, &[0; 8]),
    ]
    .concat()];
    let flags = flag::WRITE | flag::USER | flag::VMA_LOCK;
    // The header of a fault has its flags where others have their length.
    let header = record(record_type::FAULT, &[0; 3])[0] & !(0xff << uapi::HEADER_SLOTS_SHIFT)
        | flags << uapi::HEADER_FLAGS_SHIFT;
    let (mut time_ns, mut seed) = (1_000_000_000_000, 88_172_645_463_325_252_u64);
    let mut order: Vec<u64> = (0..PAGES).collect();
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for fault in 0..faults {
        let at = (fault % PAGES) as usize;
        // Each page once in a round.
        order.swap(at, at + next(PAGES - at as u64) as usize);
        time_ns += 9000 + next(2250);
        if buffers.last().is_none_or(|last| last.len() + 4 > BUFFER) {
            buffers.push(Vec::with_capacity(BUFFER));
        }
        let last = buffers.len() - 1;
        buffers[last].extend([
            header,
            time_ns,
            (MEMORY + (order[at] << 12)) | (fault & uapi::COUNTER_MASK) << uapi::MIN_FLT_SHIFT,
            0x40_1234 | 1 << uapi::ADDRESS_BITS,
        ]);
    }
    buffers
}

/// From the rings to the file.
#[inline(never)]
fn replay(buffers: &[Vec<u64>], out: &mut Counter) -> Result<()> {
    let mut writer = Writer::new(out, &Metadata::default())?;
    let mut merge = Merge::new(1);
    let mut resolver = Resolver::new();
    let mut rows: Vec<Row> = Vec::new();
    for buffer in buffers {
        let mut last_ns = 0;
        for record in Records::new(buffer) {
            let record: Record = record?;
            last_ns = record.time_ns();
            merge.push(0, record);
        }
        merge.caught_up(0, last_ns + 1);
        merge.emit(|cpu, record| {
            resolver.push(cpu, record, &mut rows);
            for row in rows.drain(..) {
                writer.push(&row)?;
                resolver.reuse(row);
            }
            io::Result::Ok(())
        })?;
    }
    resolver.finish(&mut rows);
    rows.iter().try_for_each(|row| writer.push(row))?;
    writer.finish()?;
    Ok(())
}

/// From rows to a file.
#[inline(never)]
fn rewrite(rows: &[Row], out: &mut Counter) -> Result<()> {
    let mut writer = Writer::new(out, &Metadata::default())?;
    rows.iter().try_for_each(|row| writer.push(row))?;
    writer.finish()?;
    Ok(())
}

/// From rows to small batches.
#[inline(never)]
fn flushed(rows: &[Row], together: usize) -> Result<Vec<u8>> {
    let mut memory = Memory(Vec::new());
    let mut writer = Writer::new(&mut memory, &Metadata::default())?;
    for rows in rows.chunks(together) {
        rows.iter().try_for_each(|row| writer.push(row))?;
        writer.flush()?;
    }
    writer.finish()?;
    Ok(memory.0)
}

/// From small batches to large ones.
#[inline(never)]
fn compacted(loose: &[u8], out: &mut Counter) -> Result<()> {
    compact(loose, out, |_| {})?;
    Ok(())
}

fn read(file: &str) -> Result<Vec<Row>> {
    let reader = Reader::new(BufReader::new(fs::File::open(file)?))?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn faults_of(rows: &[Row]) -> u64 {
    let faults = rows.iter().filter(|row| matches!(row, Row::Fault(_)));
    faults.count() as u64
}

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let mut out = Counter(0);
    let faults = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["random", faults] => {
            let faults = faults.parse().context("not a number of faults")?;
            replay(&random_faults(faults), &mut out)?;
            faults
        }
        [file] => {
            let rows = read(file)?;
            rewrite(&rows, &mut out)?;
            faults_of(&rows)
        }
        [file, together] => {
            let rows = read(file)?;
            let faults = faults_of(&rows);
            let loose = flushed(&rows, together.parse().context("not a number of rows")?)?;
            let bytes = loose.len() as f64 / faults as f64;
            println!("{bytes:.2} bytes each before they are compacted");
            compacted(&loose, &mut out)?;
            faults
        }
        _ => bail!("random FAULTS, or a trace, or a trace and a number of rows"),
    };
    println!(
        "{faults} faults, {:.2} bytes each",
        out.0 as f64 / faults as f64
    );
    Ok(())
}
