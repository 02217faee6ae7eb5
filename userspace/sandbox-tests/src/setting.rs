// SPDX-License-Identifier: GPL-2.0-only

//! Settings of the kernel of which one is chosen, such as `always [madvise] never`.

use std::{fs, path::PathBuf};

/// A setting that is another one while this is there.
pub struct Setting {
    file: PathBuf,
    before: String,
}

impl Setting {
    /// Chooses a value.
    pub fn choose(file: impl Into<PathBuf>, value: &str) -> Self {
        let file = file.into();
        let text = fs::read_to_string(&file).unwrap();
        let before = text.split(['[', ']']).nth(1).expect("one is chosen");
        fs::write(&file, value).unwrap();
        Self {
            before: before.to_owned(),
            file,
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(&self.file, &self.before)
            .unwrap_or_else(|error| panic!("cannot restore {}: {error}", self.file.display()));
    }
}
