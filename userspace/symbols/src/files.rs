// SPDX-License-Identifier: GPL-2.0-only

//! The files of mappings, while a trace is recorded.

use std::{
    collections::HashMap,
    fs::{File, Metadata, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::PathBuf,
    sync::Arc,
};

use fault_tracer_client::Mapping;
use fault_tracer_trace::{ElfPlace, LookAtFile};
use rustix::fs::{fstatfs, major, minor, OFlags};

use crate::Elf;

/// What `d_path` puts behind the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// More files than this are not remembered.
const FILES_MOST: usize = 1 << 14;

/// `BTRFS_SUPER_MAGIC` and `OVERLAYFS_SUPER_MAGIC` of `include/uapi/linux/magic.h`: there `stat` tells other
/// device numbers than the superblock has, which mappings are told with.
const MANY_DEVICES: [u64; 2] = [0x9123_683e, 0x794c_7630];

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
    changed: (i64, i64),
    elf: Arc<Elf>,
}

impl LookAtFile for Files {
    fn look(&mut self, mapping: &Mapping) -> ElfPlace {
        let Some(elf) = self.elf(mapping) else {
            return ElfPlace::default();
        };
        ElfPlace {
            build_id: elf.build_id.as_deref().map(Into::into),
            bias: elf.bias(mapping.offset),
        }
    }
}

impl Files {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn elf(&mut self, mapping: &Mapping) -> Option<Arc<Elf>> {
        let (file, metadata) = find(mapping)?;
        let key = (mapping.device, mapping.inode);
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        if let Some(known) = self.known.get(&key) {
            if known.changed == changed {
                return Some(Arc::clone(&known.elf));
            }
        }
        let elf = Arc::new(Elf::read(&reopened(&file)?).ok()??);
        if self.known.len() >= FILES_MOST {
            self.known.clear();
        }
        let known = Known {
            changed,
            elf: Arc::clone(&elf),
        };
        self.known.insert(key, known);
        Some(elf)
    }
}

/// Finds the file of a mapping, as a mere reference to it.
fn find(mapping: &Mapping) -> Option<(File, Metadata)> {
    let Mapping {
        pid, start, end, ..
    } = mapping;
    let paths: [PathBuf; 2] = if mapping.path.ends_with(DELETED) {
        // While the process lives.
        let range = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        [range.into(), PathBuf::new()]
    } else {
        // As the process sees it, while it lives; else as we do.
        let seen = format!("/proc/{pid}/root{}", mapping.path);
        [seen.into(), mapping.path.as_str().into()]
    };
    paths
        .into_iter()
        .filter(|path| path.is_absolute())
        .find_map(|path| {
            let file = OpenOptions::new()
                .read(true)
                // What stands there now may be a pipe or a device, which are not to be opened.
                .custom_flags(OFlags::PATH.bits() as i32)
                .open(path)
                .ok()?;
            let metadata = file.metadata().ok()?;
            is_of(&file, &metadata, mapping).then_some((file, metadata))
        })
}

/// The file of a reference, for reading.
fn reopened(reference: &File) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", reference.as_raw_fd())).ok()
}

/// Whether a file is that of a mapping.
fn is_of(file: &File, metadata: &Metadata, mapping: &Mapping) -> bool {
    if !metadata.is_file() || metadata.ino() != mapping.inode {
        return false;
    }
    let device = metadata.dev();
    let device = u64::from(major(device)) << 32 | u64::from(minor(device));
    device == mapping.device
        || fstatfs(file).is_ok_and(|of| MANY_DEVICES.contains(&(of.f_type as u64 & 0xffff_ffff)))
}
