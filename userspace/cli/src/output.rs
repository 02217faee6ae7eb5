// SPDX-License-Identifier: GPL-2.0-only

//! Where a recording goes. A file is opened before the recording starts, so that it fails early, but is not
//! changed before there is something to write.
//!
//! A recording that is there already is renamed, as `perf record` does. One that is being written is locked, and
//! refused to others.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, IsTerminal as _, Write},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{bail, Context as _};
use fault_tracer_trace::file::{Changeable, Destination};
use rustix::fs::{access, flock, Access, FlockOperation};

mod compact;

use crate::note;

/// What becomes of what is in a file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It is renamed to `FILE.old`.
    Renamed,
    /// It is replaced.
    Replaced,
}

/// Writes an answer to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever reads the other end has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written"),
    }
}

/// A file or standard output.
#[derive(Debug)]
pub struct Output {
    file: File,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// What others have opened, and which may be at any position.
    Standard,
    /// A device or a pipe.
    Device(PathBuf),
    /// A file, locked; the path is that of no link.
    File { path: PathBuf, state: State },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It did not exist, and nothing was written to it yet.
    New,
    /// It is to be emptied.
    Old,
    /// It is to be renamed.
    Former,
    /// It is being written.
    Begun,
}

impl Output {
    /// Opens `path`; standard output if there is none, or if it is `-`.
    pub fn open(path: Option<&Path>, former: Former) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let stdout = io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .context("standard output cannot be written to")?;
            return Ok(Self {
                file: stdout.into(),
                place: Place::Standard,
            });
        };
        let cannot = || format!("{} cannot be opened", path.display());
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Also a symbolic link to nothing, hence `create`.
                let file = options.create(true).truncate(false).open(path);
                (file.with_context(cannot)?, false)
            }
            other => (other.with_context(cannot)?, true),
        };
        let metadata = file.metadata().with_context(cannot)?;
        if !metadata.is_file() {
            return Ok(Self {
                file,
                place: Place::Device(path.to_owned()),
            });
        }
        let mut output = Self {
            file,
            place: Place::File {
                path: path.canonicalize().with_context(cannot)?,
                state: if is_new { State::New } else { State::Old },
            },
        };
        if let Err(error) = lock(&output.file) {
            // Another recording has it.
            output.set_state(State::Begun);
            return Err(error.context(path.display().to_string()));
        }
        if !output.is_there() {
            // Another recording has renamed it since it was opened.
            output.set_state(State::Begun);
            bail!("{}: {TAKEN}", path.display());
        }
        // An empty one, which `mktemp` made perhaps, is no recording.
        if !is_new && former == Former::Renamed && metadata.len() != 0 {
            output.set_state(State::Former);
            let folder = path.canonicalize().with_context(cannot)?;
            let folder = folder.parent().unwrap_or(Path::new("/"));
            access(folder, Access::WRITE_OK)
                .map_err(io::Error::from)
                .with_context(|| {
                    format!(
                        "{} exists and cannot be renamed to {}: name another file with -o",
                        path.display(),
                        old_name(path).display()
                    )
                })?;
        }
        Ok(output)
    }

    /// Whether it is still at its place.
    fn is_there(&self) -> bool {
        match &self.place {
            Place::File { path, .. } => is_same(&self.file, path),
            Place::Standard | Place::Device(_) => true,
        }
    }

    fn set_state(&mut self, new: State) {
        if let Place::File { state, .. } = &mut self.place {
            *state = new;
        }
    }

    /// Gets ready to be written: renames a former recording, or empties what was in the file.
    pub fn begin(&mut self) -> io::Result<()> {
        let Place::File { path, state } = &mut self.place else {
            return Ok(());
        };
        if std::mem::replace(state, State::Begun) != State::Former {
            return self.file.set_len(0);
        }
        let old = old_name(path);
        fs::rename(&*path, &old)?;
        let new = OpenOptions::new().write(true).create_new(true).open(&*path);
        let new = new.and_then(|file| lock(&file).map_err(io::Error::other).map(|()| file));
        match new {
            Ok(file) => {
                self.file = file;
                note(&format!(
                    "the {} that was there is {} now",
                    path.display(),
                    old.display()
                ));
                Ok(())
            }
            Err(error) => {
                // As it was; the first error is the one that counts.
                let _ = fs::hard_link(&old, &*path).and_then(|()| fs::remove_file(&old));
                Err(error)
            }
        }
    }

    /// Waits until what was written is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Its name in messages.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Device(path) | Place::File { path, .. } => path.display().to_string(),
            Place::Standard => "standard output".into(),
        }
    }
}

/// What is said of a file that another recording has.
const TAKEN: &str = "another recording is writing this file: name another one with -o";

/// `FILE.old` of `FILE`.
fn old_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".old");
    name.into()
}

/// Takes a file for this recording alone.
fn lock(file: &File) -> anyhow::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!(TAKEN)
        }
        // A file system that knows no locks.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Refuses an output into which others would write as well: the command, or this program its messages. And a terminal,
/// if what is written is `binary`.
pub fn refuse_mixture(path: Option<&Path>, command: bool, binary: bool) -> anyhow::Result<()> {
    let path = path.filter(|path| path.as_os_str() != "-");
    let own = |fd: std::os::fd::BorrowedFd<'_>| {
        let file = File::from(fd.try_clone_to_owned()?);
        Ok::<_, io::Error>((file.metadata()?, file.is_terminal()))
    };
    // What is closed is shared with nobody.
    let (stdout, stderr) = (
        own(io::stdout().as_fd()).ok(),
        own(io::stderr().as_fd()).ok(),
    );
    let target = match path {
        None => stdout
            .as_ref()
            .map(|(metadata, is_terminal)| (metadata.clone(), *is_terminal)),
        Some(path) => fs::metadata(path).ok().map(|metadata| {
            let is_terminal = metadata.file_type().is_char_device() && is_terminal(path);
            (metadata, is_terminal)
        }),
    };
    let Some((target, is_terminal)) = target else {
        return Ok(());
    };
    let name = path.map_or("standard output".into(), |path| path.display().to_string());
    if binary && is_terminal {
        bail!("{name} is a terminal, and what is written is binary: name a file with -o FILE");
    }
    // What a device takes, such as /dev/null, is no file that could be spoilt.
    if target.file_type().is_char_device() && !is_terminal {
        return Ok(());
    }
    let is_target = |other: &Option<(Metadata, bool)>| {
        let other = other.as_ref().map(|(metadata, _)| metadata);
        other.is_some_and(|other| (other.dev(), other.ino()) == (target.dev(), target.ino()))
    };
    if command && is_target(&stdout) {
        bail!(
            "the command's standard output would be mixed into the recording on {name}: name a file with -o FILE"
        );
    }
    if !is_terminal && is_target(&stderr) {
        bail!(
            "messages on standard error would be mixed into the recording on {name}: name another file with -o FILE"
        );
    }
    Ok(())
}

/// Whether a device is a terminal. It does not become the one of this process.
fn is_terminal(path: &Path) -> bool {
    // CAST: flags of a few bits.
    let flags = (rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path);
    file.is_ok_and(|file| file.is_terminal())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file is emptied before a trace is begun.
impl Destination for Output {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        match self.place {
            Place::File { .. } => self.file.changeable(),
            Place::Standard | Place::Device(_) => None,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Place::File {
            path,
            state: State::New,
        } = &self.place
        {
            if self.is_there() {
                // An empty file that is left behind is all that can come of a failure.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Whether a path still leads to a file.
fn is_same(file: &File, path: &Path) -> bool {
    let both = (file.metadata(), fs::symlink_metadata(path));
    let (Ok(file), Ok(there)) = both else {
        return false;
    };
    (file.dev(), file.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests;
