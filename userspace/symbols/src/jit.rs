// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of code that a program made while it ran, from the files that JIT compilers write for perf:
//! `/tmp/perf-PID.map`, with a line `START SIZE NAME` for each function, in hexadecimal digits; and `jit-PID.dump`, see
//! [`jitdump`](crate::jitdump).

use std::{
    collections::{BTreeMap, HashMap},
    env,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use fault_tracer_trace::{export::Symbol, Name, ThreadEvent, ThreadRow};
use fault_tracer_uapi::names::escape;

use crate::jitdump::JitDump;

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

/// More bytes than this of a file are not read.
const BYTES_MOST: u64 = 1 << 30;

/// The files of a trace's processes.
#[derive(Debug)]
pub struct JitFiles {
    /// Folders that hold files which are surely the right ones.
    dirs: Vec<PathBuf>,
    /// What is to be added to times of the trace to get nanoseconds since 1970, if it is of this machine.
    wall_offset_ns: Option<i64>,
    /// When the first thread of the trace was seen.
    first_ns: Option<u64>,
    /// When processes were made or executed a program.
    began: HashMap<u32, u64>,
    /// Whether times of the trace are those of `CLOCK_MONOTONIC`.
    monotonic: bool,
    /// Where jitdump files are, besides `/tmp`.
    dump_folders: Vec<PathBuf>,
    found: HashMap<u32, OfProcess>,
}

impl JitFiles {
    /// Files in the folders `dirs`, and those of this machine if the trace is of it.
    pub fn new(dirs: &[PathBuf], wall_offset_ns: Option<i64>, monotonic: bool) -> Self {
        Self {
            dirs: dirs.to_vec(),
            wall_offset_ns,
            first_ns: None,
            began: HashMap::new(),
            monotonic,
            // Nothing of this machine is looked at for a trace of another one.
            dump_folders: wall_offset_ns.map_or_else(Vec::new, |_| dump_folders()),
            found: HashMap::new(),
        }
    }

    /// Takes a row of a thread.
    pub fn thread(&mut self, row: &ThreadRow) {
        self.first_ns.get_or_insert(row.time_ns);
        let is_new = matches!(row.event, ThreadEvent::Fork | ThreadEvent::Exec);
        if is_new && row.pid == row.tid {
            self.began.insert(row.pid, row.time_ns);
            self.found.remove(&row.pid);
        }
    }

    /// What stood at an address of a process at a time of the trace; adds to `notes` why a file of it is not taken.
    pub fn symbol(
        &mut self,
        pid: u32,
        address: u64,
        time_ns: u64,
        notes: &mut Vec<String>,
    ) -> Option<Symbol> {
        if !self.found.contains_key(&pid) {
            let inner = self.wall_offset_ns.and_then(|_| inner_pid(pid));
            let found = OfProcess {
                dump: self.dump(pid, inner, notes),
                map: self.map(pid, inner, notes),
            };
            self.found.insert(pid, found);
        }
        let OfProcess { dump, map } = self.found.get(&pid)?;
        let time_ns = self.monotonic.then_some(time_ns);
        let dumped = dump.as_ref().and_then(|dump| dump.symbol(address, time_ns));
        dumped.or_else(|| map.as_ref()?.symbol(address))
    }

    /// The map of a process, if there is one.
    fn map(&self, pid: u32, inner: Option<u32>, notes: &mut Vec<String>) -> Option<PerfMap> {
        let name = |pid| format!("perf-{pid}.map");
        let (_, bytes) = self.read(pid, inner, name, &[], notes)?;
        Some(PerfMap::parse(&bytes))
    }

    /// The jitdump file of a process, if there is one.
    fn dump(&self, pid: u32, inner: Option<u32>, notes: &mut Vec<String>) -> Option<JitDump> {
        let name = |pid| format!("jit-{pid}.dump");
        let (path, bytes) = self.read(pid, inner, name, &self.dump_folders, notes)?;
        let dump = JitDump::parse(&bytes);
        if dump.is_none() {
            notes.push(format!(
                "{} is not read for symbols: it is no jitdump file of this kind of machine",
                path.display()
            ));
        }
        dump
    }

    /// The path of a process's file, and what it holds, if it is there and to be trusted. `inner` is the process's id in its
    /// own namespace while it lives; `name` makes the file's name of an id; it may be in `folders`, too.
    fn read(
        &self,
        pid: u32,
        inner: Option<u32>,
        name: impl Fn(u32) -> String,
        folders: &[PathBuf],
        notes: &mut Vec<String>,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let mut read = |path: PathBuf| match read(&path) {
            Ok((metadata, bytes)) => Some((path, metadata, bytes)),
            Err(error) => {
                notes.push(format!("{} cannot be read: {error}", path.display()));
                None
            }
        };
        let mut of_user = self.dirs.iter().map(|dir| dir.join(name(pid)));
        if let Some(path) = of_user.find(|path| path.is_file()) {
            return read(path).map(|(path, _, bytes)| (path, bytes));
        }
        let offset = self.wall_offset_ns?;
        // While the process lives, as it sees the folder and its own id.
        let inner =
            inner.map(|inner| PathBuf::from(format!("/proc/{pid}/root/tmp")).join(name(inner)));
        let others = folders.iter().map(|folder| folder.join(name(pid)));
        let mut paths = inner
            .into_iter()
            .chain([Path::new("/tmp").join(name(pid))])
            .chain(others);
        let (path, metadata, bytes) = read(paths.find(|path| path.is_file())?)?;
        // Anybody can write there.
        let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
        let began = self.began.get(&pid).copied().or(self.first_ns).unwrap_or(0);
        let changed =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let reason = if !is_ours {
            "it belongs to another user"
        } else if changed < i128::from(began) + i128::from(offset) {
            "it was written before the recording, perhaps by an earlier process with that id"
        } else {
            return Some((path, bytes));
        };
        notes.push(format!(
            "{} is not read for symbols: {reason}; a copy of it in a --debug-dir is",
            path.display()
        ));
        None
    }
}

/// What a process has written.
#[derive(Debug)]
struct OfProcess {
    dump: Option<JitDump>,
    map: Option<PerfMap>,
}

fn read(path: &Path) -> io::Result<(Metadata, Vec<u8>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MOST).read_to_end(&mut bytes)?;
    Ok((metadata, bytes))
}

/// Where V8 and perf's library for Java write jitdump files.
fn dump_folders() -> Vec<PathBuf> {
    let home = ["JITDUMPDIR", "HOME"].into_iter().find_map(env::var_os);
    let sessions = home.and_then(|home| fs::read_dir(Path::new(&home).join(".debug/jit")).ok());
    let sessions = sessions.into_iter().flatten().flatten();
    [PathBuf::from(".")]
        .into_iter()
        .chain(sessions.map(|session| session.path()))
        .collect()
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
    use crate::jitdump::tests::{dump, load};
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
            let mut maps = JitFiles::new(dirs, offset, true);
            maps.thread(&began(*pid, began_ns));
            let mut notes = Vec::new();
            let found = [0x1004, 0x1005].map(|at| maps.symbol(*pid, at, began_ns, &mut notes));
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

    #[test]
    fn a_dump_is_asked_first() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        let dumped = dump(0, &[load(10, 0x1000, 0x10, 1, "dumped")]);
        fs::write(of("jit-7.dump"), dumped).unwrap();
        fs::write(of("perf-7.map"), "1000 20 mapped\n").unwrap();
        fs::write(of("jit-8.dump"), "no dump").unwrap();
        let mut files = JitFiles::new(&[folder.path().into()], None, true);
        let mut notes = Vec::new();
        let mut name = |pid, address, time_ns| {
            let symbol = files.symbol(pid, address, time_ns, &mut notes)?;
            Some(symbol.name.to_string())
        };
        assert_eq!(name(7, 0x1004, 10).as_deref(), Some("dumped"));
        assert_eq!(name(7, 0x1004, 9).as_deref(), Some("mapped"));
        assert_eq!(name(7, 0x1014, 10).as_deref(), Some("mapped"));
        assert_eq!(name(8, 0x1004, 10), None);
        assert!(
            matches!(&notes[..], [note] if note.contains("no jitdump file")),
            "{notes:?}"
        );
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
