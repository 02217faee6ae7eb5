// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of code that ran, from files that are surely the same.
//!
//! A file is known by its build id. One that was read while it ran and has none is believed to be the same where it
//! is on the same device, has the same inode and has not changed since, on the machine where it ran. Of one that
//! could not be read while it ran nothing is believed.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs::File,
    io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{
    source::{self, Source},
    Input, Symbolized, Symbolizer as Blazesym,
};
use fault_tracer_trace::{
    export::{Symbol, Symbols},
    BuildId, Code, FileId, Metadata, Name, Object, PageSize, ThreadRow,
};
use fault_tracer_uapi::names::unescape;

use crate::{changed_ns, is_file_of, jit::JitFiles, Elf};

/// Where distributions put debug files.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// The mounts of this process's namespace.
const OUR_MOUNTS: &str = "/proc/self/mountinfo";

/// Finds symbols.
pub struct Symbolizer {
    blazesym: Blazesym,
    /// Reads DWARF as well. Made when the first line is asked for: it takes memory for all of a file's lines.
    lines: Option<Blazesym>,
    debug_dirs: Vec<PathBuf>,
    /// Of the machine where the code ran.
    page_size: PageSize,
    /// Where the trace is from, if it is of another machine: most of its files are not the ones here.
    other_host: Option<String>,
    objects: HashMap<Arc<Object>, Known>,
    /// Files without symbols, and why they have none.
    missing: Vec<(Name, String)>,
    jit_files: JitFiles,
    /// What is to be said of them.
    notes: Vec<String>,
    /// The names of files that were not read while they ran.
    unread: BTreeSet<Name>,
}

/// Where an object's symbols are, and those that were asked for.
struct Known {
    found: Option<Found>,
    symbols: HashMap<u64, Option<Symbol>>,
    lines: HashMap<u64, Option<Name>>,
}

struct Found {
    path: PathBuf,
    source: Source<'static>,
    /// With what DWARF says, for lines.
    with_lines: Source<'static>,
    /// Of the file, where the trace does not tell an offset's address.
    elf: Elf,
    page_size: PageSize,
}

impl Symbolizer {
    /// For a trace. `debug_dirs` are folders with files by their build ids (`.build-id/xx/yyyy.debug`) or by
    /// the paths that they had; they come before the system's.
    pub fn new(metadata: &Metadata, debug_dirs: &[PathBuf]) -> Self {
        let here = rustix::system::uname();
        let is_ours = here.nodename().to_string_lossy() == metadata.host;
        let mut dirs = debug_dirs.to_vec();
        dirs.push(SYSTEM_DEBUG_DIR.into());
        Self {
            blazesym: Blazesym::builder()
                .enable_auto_reload(false)
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .enable_demangling(true)
                .build(),
            lines: None,
            debug_dirs: dirs,
            page_size: metadata.page_size,
            other_host: (!is_ours).then(|| metadata.host.clone()),
            jit_files: JitFiles::new(
                debug_dirs,
                is_ours.then_some(metadata.wall_offset_ns),
                metadata.clock == "CLOCK_MONOTONIC",
            ),
            notes: Vec::new(),
            objects: HashMap::new(),
            missing: Vec::new(),
            unread: BTreeSet::new(),
        }
    }

    /// Why there are no symbols of some files: a line for each, one for all that another machine had, and one for all
    /// that were not read while they ran.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = match (&self.other_host, &self.missing[..]) {
            (_, []) => Vec::new(),
            (Some(host), [(first, _), rest @ ..]) => {
                let files = match rest.len() {
                    0 => first.to_string(),
                    1 => format!("{first} and 1 more file"),
                    more => format!("{first} and {more} more files"),
                };
                let host = if host.is_empty() {
                    "another machine"
                } else {
                    host
                };
                vec![format!(
                    "the trace is of {host}, not of this machine: no symbols of {files}, which are not the same \
                     here; copy them from there into a folder and name it with --debug-dir"
                )]
            }
            (None, missing) => missing
                .iter()
                .map(|(name, reason)| format!("no symbols of {name}: {reason}"))
                .collect(),
        };
        notes.extend(self.notes.iter().cloned());
        if let Some(first) = self.unread.first() {
            let files = match self.unread.len() {
                1 => first.to_string(),
                more => format!("{first} and {} more", more - 1),
            };
            notes.push(format!(
                "no symbols of {files}: could not be read while it ran (the process had ended, or the file was \
                 deleted), so that no build id is known"
            ));
        }
        notes
    }

    /// The file that an object's symbols are in; `None` of the kernel's own code, and of a file that could not be read while
    /// it ran.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn file_of(&self, object: &Object) -> Result<Option<PathBuf>, String> {
        Ok(self.find(object)?.map(|found| found.path))
    }

    /// Finds an object's symbols, or says why there are none.
    fn find(&self, object: &Object) -> Result<Option<Found>, String> {
        let path = PathBuf::from(OsString::from_vec(unescape(&object.name)));
        if !path.is_absolute() {
            // The kernel's own.
            return Ok(None);
        }
        let found = match &object.build_id {
            BuildId::Of(build_id) => self.by_build_id(&path, build_id),
            BuildId::Absent => self.unchanged(&path, object.file),
            BuildId::Unread => return Ok(None),
        };
        found.map(Some)
    }

    fn by_build_id(&self, path: &Path, build_id: &str) -> Result<Found, String> {
        for dir in &self.debug_dirs {
            let mut paths = Vec::new();
            if let Some((first, rest)) = build_id.split_at_checked(2) {
                let file = format!("{first}/{rest}.debug");
                paths.extend([dir.join(".build-id").join(&file), dir.join(&file)]);
            }
            paths.extend(path.strip_prefix("/").map(|path| dir.join(path)));
            for path in paths {
                if let Ok(Some(elf)) = read(&path) {
                    if elf.build_id.as_deref() == Some(build_id) {
                        return Ok(Found::new(path, elf, self.page_size));
                    }
                }
            }
        }
        let advice = format!(
            "its build id is {build_id}; --debug-dir names a folder with {}/{}.debug or a copy of it",
            build_id.get(..2).unwrap_or(""),
            build_id.get(2..).unwrap_or("")
        );
        match read(path) {
            Ok(Some(elf)) if elf.build_id.as_deref() == Some(build_id) => {
                Ok(Found::new(path.into(), elf, self.page_size))
            }
            Ok(_) => Err(format!("it was replaced since the recording ({advice})")),
            Err(error) => Err(format!("{error} ({advice})")),
        }
    }

    /// The file at a path that had no build id when it ran.
    fn unchanged(&self, path: &Path, ran: Option<FileId>) -> Result<Found, String> {
        if self.other_host.is_some() {
            return Err("it has no build id, and the trace is of another machine".into());
        }
        let (Some(ran), Some(changed)) = (ran, ran.and_then(|ran| ran.changed_ns)) else {
            return Err("it has no build id, and the trace does not say which file it is".into());
        };
        let another = || Err("another file has its name now, and it has no build id".into());
        let metadata = path.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return another();
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if !is_file_of(&file, &metadata, (ran.device, ran.inode), OUR_MOUNTS) {
            return another();
        }
        if changed_ns(&metadata) != changed {
            return Err("it has changed since it ran, and it has no build id".into());
        }
        match Elf::read(&file) {
            Ok(Some(elf)) if elf.build_id.is_some() => {
                Err("it has a build id now, and had none when it ran".into())
            }
            Ok(Some(elf)) => Ok(Found::new(path.into(), elf, self.page_size)),
            Ok(None) => Err("it is no ELF file".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Elf>> {
    // Before it is opened: whoever opens a pipe waits, and a device may act.
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    Elf::read(&File::open(path)?)
}

impl Found {
    fn new(path: PathBuf, elf: Elf, page_size: PageSize) -> Self {
        let with_lines = Source::Elf(source::Elf::new(path.clone()));
        let mut source = source::Elf::new(path.clone());
        // DWARF tells nothing that the symbol table does not.
        source.debug_syms = false;
        Self {
            path,
            source: Source::Elf(source),
            with_lines,
            elf,
            page_size,
        }
    }

    /// The address that the file's symbols use for the code at an offset.
    fn address(&self, object: &Object, offset: u64) -> Option<u64> {
        let of_file = || self.elf.bias(offset, self.page_size);
        Some(offset.wrapping_add(object.bias.or_else(of_file)?))
    }

    /// `file:line`, and the innermost inlined function that it is in.
    fn line(&self, blazesym: &Blazesym, object: &Object, offset: u64) -> Option<Name> {
        let address = self.address(object, offset)?;
        let symbolized = blazesym.symbolize_single(&self.with_lines, Input::VirtOffset(address));
        // A file that blazesym cannot read has no lines.
        let Ok(Symbolized::Sym(symbol)) = symbolized else {
            return None;
        };
        let inlined = symbol.inlined.last();
        let info = match inlined {
            Some(inlined) => inlined.code_info.as_ref(),
            None => symbol.code_info.as_deref(),
        }?;
        let place = format!("{}:{}", info.to_path().display(), info.line?);
        Some(match inlined {
            Some(inlined) => format!("{place} ({}, inlined)", inlined.name).into(),
            None => place.into(),
        })
    }

    fn symbol(&self, blazesym: &Blazesym, object: &Object, offset: u64) -> Option<Symbol> {
        let address = self.address(object, offset)?;
        // A file that blazesym cannot read has no symbols.
        match blazesym.symbolize_single(&self.source, Input::VirtOffset(address)) {
            // At address 0 stand symbols that are no places, such as the names of versions. A damaged table
            // has symbols without names.
            Ok(Symbolized::Sym(symbol)) if symbol.addr != 0 && !symbol.name.is_empty() => {
                Some(Symbol {
                    name: symbol.name.as_ref().into(),
                    offset: symbol.offset as u64,
                    bytes: symbol
                        .size
                        .map(|bytes| bytes as u64)
                        .filter(|bytes| *bytes != 0),
                })
            }
            _ => None,
        }
    }
}

impl Symbolizer {
    /// Finds where the symbols of some code are, at the first time.
    fn look_for(&mut self, code: &Code) {
        if !self.objects.contains_key(&code.object) {
            if code.object.build_id == BuildId::Unread {
                self.unread.insert(Arc::clone(&code.object.name));
            }
            let found = self.find(&code.object).unwrap_or_else(|reason| {
                self.missing.push((Arc::clone(&code.object.name), reason));
                None
            });
            let known = Known {
                found,
                symbols: HashMap::new(),
                lines: HashMap::new(),
            };
            self.objects.insert(Arc::clone(&code.object), known);
        }
    }
}

impl Symbols for Symbolizer {
    fn thread(&mut self, row: &ThreadRow) {
        self.jit_files.thread(row);
    }

    fn jitted(&mut self, pid: u32, ip: u64, time_ns: u64) -> Option<Symbol> {
        self.jit_files.symbol(pid, ip, time_ns, &mut self.notes)
    }

    fn symbol(&mut self, code: &Code, _time_ns: u64) -> Option<Symbol> {
        self.look_for(code);
        let known = self.objects.get_mut(&code.object)?;
        let found = known.found.as_ref()?;
        let symbol = known
            .symbols
            .entry(code.offset)
            .or_insert_with(|| found.symbol(&self.blazesym, &code.object, code.offset));
        symbol.clone()
    }

    fn line(&mut self, code: &Code, _time_ns: u64) -> Option<Name> {
        self.look_for(code);
        let known = self.objects.get_mut(&code.object)?;
        let found = known.found.as_ref()?;
        let lines = self.lines.get_or_insert_with(|| {
            Blazesym::builder()
                .enable_auto_reload(false)
                .enable_code_info(true)
                .enable_inlined_fns(true)
                .enable_demangling(true)
                .build()
        });
        let line = known
            .lines
            .entry(code.offset)
            .or_insert_with(|| found.line(lines, &code.object, code.offset));
        line.clone()
    }
}
