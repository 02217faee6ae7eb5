// SPDX-License-Identifier: GPL-2.0-only

//! What of the advice can be applied to a command from outside.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use fault_tracer_analysis::advice::{Advice, Rule};
use rustix::fs::{fadvise, Advice as Use};

/// The library that a command is started with, and the variable that tells it what to do.
const LIBRARY: &str = "libfault_tracer_preload.so";
const LIBRARY_DOES: &str = "FAULT_TRACER_PRELOAD";
const PRELOAD: &str = "LD_PRELOAD";

/// What is set in a command's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

fn set(name: &'static str, value: impl Into<String>) -> Setting {
    Setting {
        name,
        value: value.into(),
    }
}

/// What can be set in the environment for a rule; nothing for those that need more.
pub fn settings(rule: Rule) -> Vec<Setting> {
    match rule {
        // Blocks from this size on have mappings of their own, and so much may be free at the heap's end. One without
        // the other makes it worse: what is freed would be given back from the heap.
        Rule::Refault => vec![
            set("MALLOC_MMAP_THRESHOLD_", "1073741824"),
            set("MALLOC_TRIM_THRESHOLD_", "1073741824"),
        ],
        Rule::HugePages => vec![set("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")],
        Rule::ReadThenWrite => library("populate"),
        Rule::PopulateFile => library("populate-file"),
        _ => Vec::new(),
    }
}

/// What starts a command with the library, which is to do that.
fn library(what: &str) -> Vec<Setting> {
    let path = library_path().map_or(LIBRARY.into(), |path| path.display().to_string());
    vec![set(LIBRARY_DOES, what), set(PRELOAD, path)]
}

/// Where the library is: beside this program, or where `make install` puts it.
fn library_path() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let places = [
        folder.join(LIBRARY),
        folder.join("../lib/fault-tracer").join(LIBRARY),
    ];
    places.into_iter().find_map(|path| path.canonicalize().ok())
}

/// How a command is run to try advice.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// What is set in its environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// These files are dropped from memory before each run.
    pub dropped: Vec<PathBuf>,
    /// And are read then.
    pub read: bool,
}

impl Trial {
    /// With the advice of a rule; `None` if that cannot be applied from outside.
    pub fn of(rule: Rule, advice: &[&Advice]) -> Option<Self> {
        if rule == Rule::Prefetch {
            let files = advice.iter().flat_map(|advice| &advice.files);
            return Some(Self {
                dropped: files.map(|file| PathBuf::from(&**file)).collect(),
                read: true,
                ..Self::default()
            });
        }
        let mut settings = settings(rule);
        // What the program maps itself, besides what its allocator does.
        if rule == Rule::HugePages && library_path().is_some() {
            settings.extend(library("huge"));
        }
        let needs_library = settings.iter().any(|setting| setting.name == PRELOAD);
        if settings.is_empty() || needs_library && library_path().is_none() {
            return None;
        }
        let environment = settings.into_iter().map(|setting| {
            let mut value = OsString::from(setting.value);
            if setting.name == PRELOAD {
                if let Some(others) = env::var_os(PRELOAD) {
                    value.push(":");
                    value.push(others);
                }
            }
            (setting.name, value)
        });
        Some(Self {
            environment: environment.collect(),
            ..Self::default()
        })
    }

    /// The same without the advice. The library stays, and does nothing: to load it costs faults of its own.
    pub fn without(&self) -> Self {
        let library = self.environment.iter().filter(|(name, _)| *name == PRELOAD);
        Self {
            environment: library.cloned().collect(),
            dropped: self.dropped.clone(),
            ..Self::default()
        }
    }

    /// Does what comes before each run.
    ///
    /// # Errors
    ///
    /// Those of reading the files.
    pub fn prepare(&self) -> io::Result<()> {
        for path in &self.dropped {
            // What is gone since, or is no file, was none of the pages that are to be read again.
            let Some(mut file) = opened(path) else {
                continue;
            };
            fadvise(&file, 0, None, Use::DontNeed)?;
            if self.read {
                io::copy(&mut file, &mut io::sink())?;
            }
        }
        Ok(())
    }
}

/// A regular file. Others are not to be opened: whoever opens a pipe waits.
fn opened(path: &Path) -> Option<File> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    File::open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_trace::Name;

    fn names(trial: &Trial) -> Vec<&str> {
        trial.environment.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn what_needs_a_change_of_the_program_is_not_tried() {
        for rule in [Rule::Relocation, Rule::ExecStorm, Rule::Contention] {
            assert!(settings(rule).is_empty() && Trial::of(rule, &[]).is_none());
        }
        let trial = Trial::of(Rule::Refault, &[]).unwrap();
        assert_eq!(
            names(&trial),
            ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]
        );
        assert!(trial.without().environment.is_empty());
        // Without the library, what can be done without it.
        let has_library = library_path().is_some();
        let trial = Trial::of(Rule::HugePages, &[]).unwrap();
        let all = ["GLIBC_TUNABLES", LIBRARY_DOES, PRELOAD];
        assert_eq!(names(&trial), all[..if has_library { 3 } else { 1 }]);
        for rule in [Rule::ReadThenWrite, Rule::PopulateFile] {
            let trial = Trial::of(rule, &[]);
            assert_eq!(trial.is_some(), has_library);
            if let Some(trial) = trial {
                assert_eq!(names(&trial.without()), [PRELOAD]);
            }
        }
    }

    #[test]
    fn files_are_read_before_a_run_and_what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, vec![1; 100_000]).unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let gone = folder.path().join("gone");
        let files = [&file, &pipe, &gone].map(|path| Name::from(path.to_str().unwrap()));
        let advice = Advice {
            files: files.to_vec(),
            ..crate::text::advise::testing::advice(Rule::Prefetch)
        };
        let trial = Trial::of(Rule::Prefetch, &[&advice]).unwrap();
        assert_eq!(trial.dropped.len(), 3);
        trial.prepare().unwrap();
        trial.without().prepare().unwrap();
        assert!(!trial.without().read);
    }
}
