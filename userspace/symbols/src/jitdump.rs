// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of code that a program made while it ran, with the times at which it did: jitdump files, as the kernel's
//! `tools/perf/Documentation/jitdump-specification.txt` describes them.

use std::collections::{BTreeMap, HashMap};

use fault_tracer_trace::{export::Symbol, Name};
use fault_tracer_uapi::names::escape;

/// `JiTD`, in the byte order of the machine that wrote it.
const MAGIC: u32 = 0x4a69_5444;
/// Of the header: times are those of the processor's counter, not of `CLOCK_MONOTONIC`.
const ARCH_TIMESTAMP: u64 = 1;
const HEADER_BYTES: usize = 40;
/// What begins a record: what it is, its bytes, its time.
const RECORD_BYTES: usize = 16;
const CODE_LOAD: u32 = 0;
const CODE_MOVE: u32 = 1;

/// The functions of a file.
#[derive(Debug, Default)]
pub struct JitDump {
    /// By their first addresses; of each address in the order in which they were made.
    functions: BTreeMap<u64, Vec<Function>>,
    /// Bytes of the largest one.
    largest: u64,
    /// Whether times are those of `CLOCK_MONOTONIC`.
    monotonic: bool,
}

#[derive(Debug)]
struct Function {
    time_ns: u64,
    /// Its place in the file.
    number: usize,
    bytes: u64,
    name: Name,
}

/// Reads numbers of the machine's own byte order.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// A text that ends with a zero.
    fn text(&self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        Some(&self.0[..end])
    }
}

impl JitDump {
    /// Reads a file; `None` if it is none, or of a machine with another byte order. What stands behind a record that is
    /// none, as the last one of a file that is being written, is left out.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut header = Bytes(bytes);
        let magic = header.u32()?;
        let (_version, header_bytes) = (header.u32()?, header.u32()? as usize);
        if magic != MAGIC || header_bytes < HEADER_BYTES {
            return None;
        }
        // The processor, padding, the process, the time.
        header.take::<20>()?;
        let mut dump = Self {
            monotonic: header.u64()? & ARCH_TIMESTAMP == 0,
            ..Self::default()
        };
        let mut rest = bytes.get(header_bytes..)?;
        let mut names = HashMap::new();
        for number in 0.. {
            let mut record = Bytes(rest);
            let (Some(what), Some(total), Some(time_ns)) =
                (record.u32(), record.u32(), record.u64())
            else {
                break;
            };
            let total = total as usize;
            if total < RECORD_BYTES || total > rest.len() {
                break;
            }
            let body = Bytes(&rest[RECORD_BYTES..total]);
            rest = &rest[total..];
            // A record that does not hold what its kind needs is passed over.
            let _: Option<()> = dump.add(what, body, time_ns, number, &mut names);
        }
        Some(dump)
    }

    /// Takes a record that makes or moves a function; `names` are those of the functions' indices.
    fn add(
        &mut self,
        what: u32,
        mut body: Bytes<'_>,
        time_ns: u64,
        number: usize,
        names: &mut HashMap<u64, Name>,
    ) -> Option<()> {
        // Process, thread, virtual address; of a move the former address, too.
        match what {
            CODE_LOAD => _ = body.take::<16>()?,
            CODE_MOVE => _ = body.take::<24>()?,
            _ => return None,
        }
        let (start, bytes, index) = (body.u64()?, body.u64()?, body.u64()?);
        if what == CODE_LOAD {
            names.insert(index, escape(body.text()?).into());
        }
        let name = Name::clone(names.get(&index)?);
        self.largest = self.largest.max(bytes);
        self.functions.entry(start).or_default().push(Function {
            time_ns,
            number,
            bytes,
            name,
        });
        Some(())
    }

    /// The function that stood at an address at that time of `CLOCK_MONOTONIC`; without a time, the last one. Of
    /// functions that overlap, the one counts that was made last: the compiler has reused the memory.
    pub fn symbol(&self, address: u64, time_ns: Option<u64>) -> Option<Symbol> {
        let time_ns = time_ns.filter(|_| self.monotonic);
        let least = address.saturating_sub(self.largest);
        let near = self.functions.range(least..=address);
        let all = near.flat_map(|(start, functions)| functions.iter().map(|of| (*start, of)));
        let there = all.filter(|(start, of)| {
            address - start < of.bytes && time_ns.is_none_or(|time_ns| of.time_ns <= time_ns)
        });
        let (start, function) = there.max_by_key(|(_, of)| match time_ns {
            Some(_) => (of.time_ns, of.number),
            None => (0, of.number),
        })?;
        Some(Symbol {
            name: Name::clone(&function.name),
            offset: address - start,
            bytes: Some(function.bytes),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with those records: what they are, times, bodies.
    pub fn dump(flags: u64, records: &[(u32, u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, 1, 40, 62, 0, 7] {
            bytes.extend(number.to_ne_bytes());
        }
        for number in [0, flags] {
            bytes.extend(number.to_ne_bytes());
        }
        for (what, time_ns, body) in records {
            bytes.extend(what.to_ne_bytes());
            bytes.extend((RECORD_BYTES as u32 + body.len() as u32).to_ne_bytes());
            bytes.extend(time_ns.to_ne_bytes());
            bytes.extend(body);
        }
        bytes
    }

    /// A function that is made at a time: address, bytes, index, name.
    pub fn load(
        time_ns: u64,
        start: u64,
        size: u64,
        index: u64,
        name: &str,
    ) -> (u32, u64, Vec<u8>) {
        let mut body = vec![0; 8];
        for number in [start, start, size, index] {
            body.extend(number.to_ne_bytes());
        }
        body.extend(name.as_bytes());
        body.push(0);
        body.extend(vec![0xc3; size as usize]);
        (CODE_LOAD, time_ns, body)
    }

    fn moved(time_ns: u64, from: u64, to: u64, size: u64, index: u64) -> (u32, u64, Vec<u8>) {
        let mut body = vec![0; 8];
        for number in [to, from, to, size, index] {
            body.extend(number.to_ne_bytes());
        }
        (CODE_MOVE, time_ns, body)
    }

    fn found(dump: &JitDump, address: u64, time_ns: u64) -> Option<(String, u64)> {
        let symbol = dump.symbol(address, Some(time_ns))?;
        Some((symbol.name.to_string(), symbol.offset))
    }

    #[test]
    fn functions_are_found_at_their_time() {
        let records = [
            load(10, 0x1000, 0x100, 1, "first"),
            // Line numbers, and the end.
            (2, 11, vec![0; 16]),
            load(20, 0x1080, 0x10, 2, "second"),
            moved(30, 0x1000, 0x5000, 0x100, 1),
            (3, 40, vec![]),
        ];
        let of = |name: &str, offset| Some((name.to_owned(), offset));
        let bytes = dump(0, &records);
        let read = JitDump::parse(&bytes).unwrap();
        assert_eq!(found(&read, 0x1000, 9), None);
        assert_eq!(found(&read, 0x1085, 10), of("first", 0x85));
        assert_eq!(found(&read, 0x1085, 20), of("second", 5));
        assert_eq!(found(&read, 0x1090, 20), of("first", 0x90));
        assert_eq!(found(&read, 0x1100, 20), None);
        assert_eq!(found(&read, 0x50ff, 29), None);
        assert_eq!(found(&read, 0x50ff, 30), of("first", 0xff));
        // A file that is being written.
        let torn = JitDump::parse(&bytes[..bytes.len() - 20]).unwrap();
        assert_eq!(found(&torn, 0x1085, 20), of("second", 5));
        assert_eq!(found(&torn, 0x5000, 30), None);
        // Times of another clock: the last one counts.
        let other = JitDump::parse(&dump(ARCH_TIMESTAMP, &records)).unwrap();
        assert_eq!(found(&other, 0x1085, 0), of("second", 5));
    }

    #[test]
    fn other_files_are_refused() {
        let mut swapped = dump(0, &[]);
        swapped[..4].reverse();
        for bytes in [&b""[..], b"JiTD", &swapped, &dump(0, &[])[..30]] {
            assert!(JitDump::parse(bytes).is_none());
        }
    }

    /// What CPython 3.13 wrote: `python3 -X perf_jit -I -S -c 'def wanted(): …'`.
    #[test]
    fn a_file_of_cpython_is_read() {
        let bytes = include_bytes!("testdata/cpython-3.13.dump");
        let read = JitDump::parse(bytes).unwrap();
        let all = read
            .functions
            .iter()
            .flat_map(|(start, of)| of.iter().map(|of| (*start, of)));
        let (start, function) = all
            .clone()
            .find(|(_, function)| function.name.contains("wanted"))
            .expect("the function");
        let symbol = read.symbol(start + 1, Some(function.time_ns)).unwrap();
        assert_eq!((&symbol.name, symbol.offset), (&function.name, 1));
        assert!(all.count() > 5);
    }

    proptest! {
        #[test]
        fn any_file_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = dump(0, &[load(1, 0, 5, 0, "x")]);
            whole.extend(bytes);
            let read = JitDump::parse(&whole).unwrap();
            prop_assert!(read.symbol(1, Some(1)).is_some());
            let _ = read.symbol(u64::MAX, None);
        }
    }
}
