// SPDX-License-Identifier: GPL-2.0-only

//! The files of mappings, while a trace is recorded.

use std::{
    collections::HashMap,
    fs::{File, Metadata, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStringExt as _, fs::OpenOptionsExt as _},
    },
    path::PathBuf,
    sync::Arc,
};

use fault_tracer_client::Mapping;
use fault_tracer_symbols::{changed_ns, is_file_of, Elf};
use fault_tracer_trace::BuildId;
use fault_tracer_uapi::names::unescape;
use rustix::fs::OFlags;

use crate::{ElfPlace, LookAtFile};

/// What `d_path` puts behind the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// More files than this are not remembered.
const FILES_MOST: usize = 1 << 14;

/// Reads the build ids and segments of files, each once.
///
/// A file that is gone, that another has taken the place of, or that may not be read is none.
#[derive(Debug, Default)]
pub struct Files {
    known: HashMap<(u64, u64), Known>,
}

#[derive(Debug)]
struct Known {
    /// Its last change: the number of a file that is gone is given to another.
    changed_ns: i64,
    elf: Arc<Elf>,
}

impl LookAtFile for Files {
    fn look(&mut self, mapping: &Mapping) -> ElfPlace {
        let Some((elf, changed_ns)) = self.elf(mapping) else {
            return ElfPlace::default();
        };
        let build_id = elf.build_id.as_deref();
        ElfPlace {
            build_id: build_id.map_or(BuildId::Absent, |digits| BuildId::Of(digits.into())),
            bias: elf.bias(mapping.offset),
            changed_ns: Some(changed_ns),
        }
    }
}

impl Files {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a mapping's file says of itself, and when it last changed; `None` if it cannot be read.
    fn elf(&mut self, mapping: &Mapping) -> Option<(Arc<Elf>, i64)> {
        let (file, metadata) = find(mapping)?;
        let key = (mapping.device, mapping.inode);
        let changed_ns = changed_ns(&metadata);
        if let Some(known) = self.known.get(&key) {
            if known.changed_ns == changed_ns {
                return Some((Arc::clone(&known.elf), changed_ns));
            }
        }
        // What is no ELF file has no build id.
        let elf = Arc::new(Elf::read(&reopened(&file)?).ok()?.unwrap_or_default());
        if self.known.len() >= FILES_MOST {
            self.known.clear();
        }
        let known = Known {
            changed_ns,
            elf: Arc::clone(&elf),
        };
        self.known.insert(key, known);
        Some((elf, changed_ns))
    }
}

/// Finds the file of a mapping, as a mere reference to it.
fn find(mapping: &Mapping) -> Option<(File, Metadata)> {
    let Mapping {
        pid, start, end, ..
    } = mapping;
    let mut paths: Vec<(PathBuf, String)> = Vec::new();
    let mounts = format!("/proc/{pid}/mountinfo");
    let path = unescape(&mapping.path);
    let has_name = !mapping.path.ends_with(DELETED) && path.starts_with(b"/");
    let path_in = |root: &str| {
        PathBuf::from(std::ffi::OsString::from_vec(
            [root.as_bytes(), &path].concat(),
        ))
    };
    // While the process lives: as it sees the path, whatever its mount namespace and its root are, and the mapped file
    // itself.
    if has_name {
        paths.push((path_in(&format!("/proc/{pid}/root")), mounts.clone()));
    }
    let mapped = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    paths.push((mapped.into(), mounts));
    // Afterwards as we see it: in another namespace that is another file, with another device and inode.
    if has_name {
        paths.push((path_in(""), "/proc/self/mountinfo".into()));
    }
    paths.into_iter().find_map(|(path, mounts)| {
        let file = OpenOptions::new()
            .read(true)
            // What stands there now may be a pipe or a device, which are not to be opened.
            .custom_flags(OFlags::PATH.bits() as i32)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        is_file_of(&file, &metadata, (mapping.device, mapping.inode), &mounts)
            .then_some((file, metadata))
    })
}

/// The file of a reference, for reading.
fn reopened(reference: &File) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", reference.as_raw_fd())).ok()
}
