// SPDX-License-Identifier: GPL-2.0-only

//! Where a recording goes. A file is opened before the recording starts, so that it fails early, but is not
//! changed before there is something to write.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use fault_tracer_trace::file::{Destination, Rewrite};

/// A file or standard output.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// The file did not exist, and nothing was written to it yet.
    unused: bool,
}

impl Output {
    /// Opens `path`; standard output if there is none, or if it is `-`.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let stdout = io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .context("standard output cannot be written to")?;
            return Ok(Self {
                file: stdout.into(),
                path: None,
                unused: false,
            });
        };
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, unused) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Also a symbolic link to nothing, hence `create`.
                (options.create(true).truncate(false).open(path), false)
            }
            other => (other, true),
        };
        Ok(Self {
            file: file.with_context(|| format!("{} cannot be opened", path.display()))?,
            path: Some(path.to_owned()),
            unused,
        })
    }

    /// Gets ready to be written: empties what was in the file.
    pub fn begin(&mut self) -> io::Result<()> {
        self.unused = false;
        self.cut_to(0)
    }

    /// Takes back what was written behind so many bytes, where that is possible: a torn end helps nobody.
    pub fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.rewrite().map_or(Ok(()), |file| file.cut_to(bytes))
    }

    /// Its name in messages.
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard output".into(),
        }
    }
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
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite> {
        // What standard output is, others have opened: it may be at any position.
        let Self { file, path, .. } = self;
        path.as_ref().and_then(|_| file.rewrite())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let (true, Some(path)) = (self.unused, &self.path) {
            // An empty file that is left behind is all that can come of a failure.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_until_the_recording_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.csv");
        fs::write(&path, "an older and longer recording").unwrap();
        drop(Output::open(Some(&path)).unwrap());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "an older and longer recording"
        );
        let mut output = Output::open(Some(&path)).unwrap();
        output.begin().unwrap();
        output.write_all(b"new").unwrap();
        drop(output);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_new_file_is_not_left_behind_unused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.csv");
        let output = Output::open(Some(&path)).unwrap();
        assert!(path.exists());
        drop(output);
        assert!(!path.exists());
        let mut output = Output::open(Some(&path)).unwrap();
        output.begin().unwrap();
        drop(output);
        assert!(path.exists());
    }

    #[test]
    fn devices_and_links_can_be_written_to() {
        let mut null = Output::open(Some(Path::new("/dev/null"))).unwrap();
        null.begin().unwrap();
        null.write_all(b"x").unwrap();
        drop(null);
        assert!(Path::new("/dev/null").exists());

        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        Output::open(Some(&link)).unwrap().begin().unwrap();
        assert!(folder.path().join("target").exists());
    }

    #[test]
    fn a_bad_path_is_named() {
        let error = Output::open(Some(Path::new("/no/such/folder/f.csv"))).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/f.csv"));
    }
}
