// SPDX-License-Identifier: GPL-2.0-only

//! Symbols of code that ran, from files that are surely the same.
//!
//! A file is known by its build id. One that has none is believed to be the same where it has not changed
//! since the code ran, on the machine where it ran.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{
    source::{self, Source},
    Input, Symbolized, Symbolizer as Blazesym,
};
use fault_tracer_trace::{
    export::{Symbol, Symbols},
    About, Code, Object,
};

use crate::Elf;

/// Where distributions put debug files.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// Finds symbols.
pub struct Symbolizer {
    blazesym: Blazesym,
    debug_dirs: Vec<PathBuf>,
    /// What is to be added to a time of the trace to get nanoseconds since 1970, if the trace is of this
    /// machine.
    wall_offset_ns: Option<i64>,
    objects: HashMap<Arc<Object>, Known>,
    notes: Vec<String>,
}

/// Where an object's symbols are, and those that were asked for.
struct Known {
    found: Option<Found>,
    symbols: HashMap<u64, Option<Symbol>>,
}

struct Found {
    source: Source<'static>,
    /// Of the file, where the trace does not tell an offset's address.
    elf: Elf,
}

impl Symbolizer {
    /// For a trace. `debug_dirs` are folders with files by their build ids (`.build-id/xx/yyyy.debug`) or by
    /// the paths that they had; they come before the system's.
    pub fn new(about: &About, debug_dirs: &[PathBuf]) -> Self {
        let here = rustix::system::uname();
        let same = here.nodename().to_string_lossy() == about.host;
        let mut dirs = debug_dirs.to_vec();
        dirs.push(SYSTEM_DEBUG_DIR.into());
        Self {
            blazesym: Blazesym::builder()
                .enable_auto_reload(false)
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .enable_demangling(true)
                .build(),
            debug_dirs: dirs,
            wall_offset_ns: same.then_some(about.wall_offset_ns),
            objects: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Why there are no symbols of some files, a line for each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Finds an object's symbols, or says why there are none.
    fn find(&self, object: &Object, time_ns: u64) -> Result<Option<Found>, String> {
        let path = Path::new(&*object.name);
        if !path.is_absolute() {
            // The kernel's own.
            return Ok(None);
        }
        let found = match &object.build_id {
            Some(build_id) => self.by_build_id(path, build_id),
            None => self.unchanged(path, time_ns),
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
                        return Ok(Found::new(path, elf));
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
                Ok(Found::new(path.into(), elf))
            }
            Ok(_) => Err(format!("it was replaced since the recording ({advice})")),
            Err(error) => Err(format!("{error} ({advice})")),
        }
    }

    fn unchanged(&self, path: &Path, time_ns: u64) -> Result<Found, String> {
        let Some(offset) = self.wall_offset_ns else {
            return Err("it has no build id, and the trace is of another machine".into());
        };
        let changed = path
            .metadata()
            .map(|of| i128::from(of.ctime()) * 1_000_000_000 + i128::from(of.ctime_nsec()))
            .map_err(|error| error.to_string())?;
        if changed >= i128::from(time_ns) + i128::from(offset) {
            return Err("it has changed since it ran, and no build id was recorded".into());
        }
        match read(path) {
            Ok(Some(elf)) => Ok(Found::new(path.into(), elf)),
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
    fn new(path: PathBuf, elf: Elf) -> Self {
        let mut source = source::Elf::new(path);
        // DWARF tells nothing that the symbol table does not.
        source.debug_syms = false;
        Self {
            source: Source::Elf(source),
            elf,
        }
    }

    fn symbol(&self, blazesym: &Blazesym, object: &Object, offset: u64) -> Option<Symbol> {
        let bias = object.bias.or_else(|| self.elf.bias(offset))?;
        let address = offset.wrapping_add(bias);
        // A file that blazesym cannot read has no symbols.
        match blazesym.symbolize_single(&self.source, Input::VirtOffset(address)) {
            // At address 0 stand symbols that are no places, such as the names of versions. A damaged table
            // has symbols without names.
            Ok(Symbolized::Sym(symbol)) if symbol.addr != 0 && !symbol.name.is_empty() => {
                Some(Symbol {
                    name: symbol.name.as_ref().into(),
                    offset: symbol.offset as u64,
                })
            }
            _ => None,
        }
    }
}

impl Symbols for Symbolizer {
    fn symbol(&mut self, code: &Code, time_ns: u64) -> Option<Symbol> {
        if !self.objects.contains_key(&code.object) {
            let found = self.find(&code.object, time_ns).unwrap_or_else(|reason| {
                let note = format!("no symbols of {}: {reason}", code.object.name);
                self.notes.push(note);
                None
            });
            let known = Known {
                found,
                symbols: HashMap::new(),
            };
            self.objects.insert(Arc::clone(&code.object), known);
        }
        let known = self.objects.get_mut(&code.object)?;
        let found = known.found.as_ref()?;
        let symbol = known
            .symbols
            .entry(code.offset)
            .or_insert_with(|| found.symbol(&self.blazesym, &code.object, code.offset));
        symbol.clone()
    }
}
