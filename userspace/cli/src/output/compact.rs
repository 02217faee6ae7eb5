// SPDX-License-Identifier: GPL-2.0-only

//! Replaces a recording that has ended by a compact copy of it. Until the copy is whole it has no name: a program that
//! is killed leaves nothing behind.

use std::{
    fs::{self, File},
    io::BufReader,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::{bail, Context as _};
use fault_tracer_trace::file;
use rustix::fs::{fchmod, fchown, fstatvfs, linkat, open, AtFlags, Gid, Mode, OFlags, Uid, CWD};

use super::{is_same, lock, Output, Place};

impl Output {
    /// Replaces what was written by a compact copy; `progress` gets how many rows were copied. Returns the bytes of
    /// the copy; `None` where what was written is no file.
    ///
    /// # Errors
    ///
    /// Why it was left as it is: whole, but larger.
    pub fn compact(&mut self, progress: impl FnMut(u64)) -> anyhow::Result<Option<u64>> {
        let Place::File { path, .. } = &self.place else {
            return Ok(None);
        };
        let was = self.file.metadata()?;
        if was.nlink() != 1 || !is_same(&self.file, path) {
            bail!("it has other names or was moved");
        }
        let disk = fstatvfs(&self.file)?;
        // No other program is to find the disk full meanwhile.
        if disk.f_bavail.saturating_mul(disk.f_frsize) / 2 < was.len() {
            bail!("the disk has too little room for a copy");
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let copy = open(folder, flags, Mode::RUSR | Mode::WUSR);
        let copy = File::from(copy.context("its file system makes no files without a name")?);
        let mode = Mode::from_raw_mode(was.mode() & 0o7777);
        let new = copy.metadata()?;
        if (was.uid(), was.gid()) != (new.uid(), new.gid()) {
            let (uid, gid) = (Uid::from_raw(was.uid()), Gid::from_raw(was.gid()));
            fchown(&copy, Some(uid), Some(gid)).context("its copy would have another owner")?;
        }
        fchmod(&copy, mode)?;

        let original = BufReader::with_capacity(1 << 18, File::open(path)?);
        let copied = file::compact(original, &mut Unchanged(&copy), progress)?;
        // Before it takes the place of what may be on the disk already.
        copy.sync_data()?;
        lock(&copy)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let unnamed = format!("/proc/self/fd/{}", copy.as_raw_fd());
        linkat(CWD, unnamed, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
        if let Err(error) = fs::rename(&name, path) {
            // The first error is the one that counts.
            let _ = fs::remove_file(&name);
            return Err(error.into());
        }
        self.file = copy;
        Ok(Some(copied.bytes))
    }
}

/// A file in which nothing is changed: without room for all of it, the copy is of no use.
struct Unchanged<'a>(&'a File);

impl std::io::Write for Unchanged<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl file::Destination for Unchanged<'_> {
    fn changeable(&mut self) -> Option<&mut dyn file::Changeable> {
        None
    }
}
