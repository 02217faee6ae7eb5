// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of code that a program made while it ran: the maps that JIT compilers write for perf, `/tmp/perf-PID.map`,
//! with a line `START SIZE NAME` for each function, in hexadecimal digits.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use fault_tracer_trace::{export::Symbol, Name, ThreadEvent, ThreadRow};
use fault_tracer_uapi::names::escape;

/// The functions of a map, by their first addresses. They do not overlap.
#[derive(Debug, Default)]
pub struct PerfMap(BTreeMap<u64, Function>);

#[derive(Clone, Debug)]
struct Function {
    end: u64,
    /// Where it began, before others took a part of it.
    start: u64,
    name: Name,
}

impl PerfMap {
    /// Reads a map. Of functions that overlap, the later line counts: the compiler has reused the memory. Lines that are
    /// none, as the last of a file that is being written, are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut map = Self::default();
        for (start, size, name) in text.split(|&byte| byte == b'\n').filter_map(line) {
            map.insert(start, start.saturating_add(size), escape(name).into());
        }
        map
    }

    /// What stands at an address.
    pub fn symbol(&self, address: u64) -> Option<Symbol> {
        let (_, function) = self.0.range(..=address).next_back()?;
        (address < function.end).then(|| Symbol {
            name: Arc::clone(&function.name),
            offset: address - function.start,
            bytes: Some(function.end - function.start),
        })
    }

    fn insert(&mut self, start: u64, end: u64, name: Name) {
        let before = self.0.range(..start).next_back();
        let first = before
            .filter(|(_, function)| function.end > start)
            .map_or(start, |(at, _)| *at);
        let overlapping: Vec<u64> = self.0.range(first..end).map(|(at, _)| *at).collect();
        for at in overlapping {
            let Some(function) = self.0.remove(&at) else {
                continue;
            };
            if function.end > end {
                self.0.insert(end, function.clone());
            }
            if at < start {
                self.0.insert(
                    at,
                    Function {
                        end: start,
                        ..function
                    },
                );
            }
        }
        if start < end {
            self.0.insert(start, Function { end, start, name });
        }
    }
}

/// Start, size and name of a line's function.
fn line(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    (!name.is_empty()).then_some((start, size, name))
}

/// More bytes than this of a map are not read.
const MAP_BYTES_MOST: u64 = 1 << 28;

/// The maps of a trace's processes.
#[derive(Debug)]
pub struct PerfMaps {
    /// Folders that hold maps which are surely the right ones.
    dirs: Vec<PathBuf>,
    /// What is to be added to times of the trace to get nanoseconds since 1970, if it is of this machine.
    wall_offset_ns: Option<i64>,
    /// When the first thread of the trace was seen.
    first_ns: Option<u64>,
    /// When processes were made or executed a program.
    began: HashMap<u32, u64>,
    maps: HashMap<u32, Option<PerfMap>>,
}

impl PerfMaps {
    /// Maps in the folders `dirs`, and those of this machine if the trace is of it.
    pub fn new(dirs: &[PathBuf], wall_offset_ns: Option<i64>) -> Self {
        Self {
            dirs: dirs.to_vec(),
            wall_offset_ns,
            first_ns: None,
            began: HashMap::new(),
            maps: HashMap::new(),
        }
    }

    /// Takes a row of a thread.
    pub fn thread(&mut self, row: &ThreadRow) {
        self.first_ns.get_or_insert(row.time_ns);
        let is_new = matches!(row.event, ThreadEvent::Fork | ThreadEvent::Exec);
        if is_new && row.pid == row.tid {
            self.began.insert(row.pid, row.time_ns);
            self.maps.remove(&row.pid);
        }
    }

    /// What stands at an address of a process; adds to `notes` why its map is not taken.
    pub fn symbol(&mut self, pid: u32, address: u64, notes: &mut Vec<String>) -> Option<Symbol> {
        if !self.maps.contains_key(&pid) {
            let map = self.find(pid).unwrap_or_else(|note| {
                notes.push(note);
                None
            });
            self.maps.insert(pid, map);
        }
        self.maps.get(&pid)?.as_ref()?.symbol(address)
    }

    /// The map of a process, if there is one, or why it is not taken.
    fn find(&self, pid: u32) -> Result<Option<PerfMap>, String> {
        let file = format!("perf-{pid}.map");
        for dir in &self.dirs {
            let path = dir.join(&file);
            if path.is_file() {
                return read(&path).map(|(_, map)| Some(map));
            }
        }
        let Some(offset) = self.wall_offset_ns else {
            return Ok(None);
        };
        // While the process lives, as it sees the folder and its own id.
        let inner = inner_pid(pid).map(|inner| format!("/proc/{pid}/root/tmp/perf-{inner}.map"));
        let paths = inner.into_iter().chain([format!("/tmp/{file}")]);
        let Some(path) = paths.map(PathBuf::from).find(|path| path.is_file()) else {
            return Ok(None);
        };
        let (metadata, map) = read(&path)?;
        let refused = |reason: &str| {
            Err(format!(
                "{} is not read for symbols: {reason}; a copy of it in a --debug-dir is",
                path.display()
            ))
        };
        // Anybody can write there.
        if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
            return refused("it belongs to another user");
        }
        let began = self.began.get(&pid).copied().or(self.first_ns).unwrap_or(0);
        let changed =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        if changed < i128::from(began) + i128::from(offset) {
            return refused(
                "it was written before the recording, perhaps by an earlier process with that id",
            );
        }
        Ok(Some(map))
    }
}

fn read(path: &Path) -> Result<(Metadata, PerfMap), String> {
    let read = || -> io::Result<_> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut text = Vec::new();
        file.take(MAP_BYTES_MOST).read_to_end(&mut text)?;
        Ok((metadata, PerfMap::parse(&text)))
    };
    read().map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// The id of a living process in its own pid namespace.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(map: &PerfMap, address: u64) -> Option<(String, u64)> {
        let symbol = map.symbol(address)?;
        Some((symbol.name.to_string(), symbol.offset))
    }

    #[test]
    fn functions_are_found_by_their_addresses() {
        let map = PerfMap::parse(
            b"7f00 10 py::main:/a b.py\n0x8000 0x20 LazyCompile:~f x.js:1\n\nno line\n9000 z bad\n\
              a000 4 \xff\na0 4\nb000 8 torn",
        );
        assert_eq!(found(&map, 0x7eff), None);
        assert_eq!(found(&map, 0x7f0f), Some(("py::main:/a b.py".into(), 15)));
        assert_eq!(found(&map, 0x7f10), None);
        assert_eq!(
            found(&map, 0x8001),
            Some(("LazyCompile:~f x.js:1".into(), 1))
        );
        assert_eq!(found(&map, 0xa000), Some(("\\377".into(), 0)));
        assert_eq!(found(&map, 0xa2), None);
    }

    #[test]
    fn memory_that_was_reused_has_the_later_function() {
        let map = PerfMap::parse(b"100 40 old\n110 10 new\n");
        assert_eq!(found(&map, 0x10f), Some(("old".into(), 0xf)));
        assert_eq!(found(&map, 0x110), Some(("new".into(), 0)));
        assert_eq!(found(&map, 0x120), Some(("old".into(), 0x20)));
    }

    fn began(pid: u32, time_ns: u64) -> ThreadRow {
        ThreadRow {
            event: ThreadEvent::Exec,
            time_ns,
            cpu: 0,
            pid,
            tid: pid,
            process: None,
            thread: None,
            program: None,
            parent: None,
            old_tid: None,
            min_flt: 0,
            maj_flt: 0,
        }
    }

    /// A process id that no process has, and the map of it where compilers write it.
    struct Map(u32, PathBuf);

    impl Map {
        fn new(text: &str) -> Self {
            let pid = (1 << 22) + std::process::id();
            let path = PathBuf::from(format!("/tmp/perf-{pid}.map"));
            fs::write(&path, text).unwrap();
            Self(pid, path)
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.1);
        }
    }

    #[test]
    fn maps_are_those_of_the_process_and_of_no_earlier_one() {
        let map = Map::new("1000 10 jitted\n");
        let Map(pid, path) = &map;
        let metadata = path.metadata().unwrap();
        let changed = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
        let ask = |dirs: &[PathBuf], offset: Option<i64>, began_ns| {
            let mut maps = PerfMaps::new(dirs, offset);
            maps.thread(&began(*pid, began_ns));
            let mut notes = Vec::new();
            let found = [0x1004, 0x1005].map(|at| maps.symbol(*pid, at, &mut notes));
            assert_eq!(found[0].is_some(), found[1].is_some());
            let symbol = found[0]
                .as_ref()
                .map(|symbol| (symbol.name.to_string(), symbol.offset));
            (symbol, notes)
        };
        let found = Some(("jitted".to_owned(), 4));
        assert_eq!(ask(&[], Some(changed - 5), 5), (found.clone(), vec![]));
        // Of a process that began when the map was there.
        let (none, notes) = ask(&[], Some(changed - 5), 6);
        assert_eq!(none, None);
        assert!(
            matches!(&notes[..], [note] if note.contains("before the recording")),
            "{notes:?}"
        );
        // Of another machine.
        assert_eq!(ask(&[], None, 5), (None, vec![]));
        // A folder that the user names holds the right ones.
        let folder = tempfile::tempdir().unwrap();
        fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
        assert_eq!(ask(&[folder.path().into()], None, 6), (found, vec![]));
    }

    proptest! {
        /// Functions as an array of bytes says.
        #[test]
        fn the_last_function_of_an_address_counts(
            functions in prop::collection::vec((0..60u64, 0..20u64), 0..20),
        ) {
            let mut text = String::new();
            let mut bytes = [None; 80];
            for (number, (start, size)) in functions.iter().enumerate() {
                text += &format!("{start:x} {size:x} {number}\n");
                for at in *start..start + size {
                    bytes[at as usize] = Some((number, at - start));
                }
            }
            let map = PerfMap::parse(text.as_bytes());
            for (at, expected) in bytes.into_iter().enumerate() {
                let expected = expected.map(|(number, offset)| (number.to_string(), offset));
                prop_assert_eq!(found(&map, at as u64), expected);
            }
        }

        #[test]
        fn any_map_is_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PerfMap::parse(&text).symbol(7);
        }
    }
}
