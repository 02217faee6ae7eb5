// SPDX-License-Identifier: GPL-2.0-only

//! Whom to trace by what they are: `--cgroup`, `--user`, `--exe`, `--name`, `--except`.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, path::PathBuf, str::FromStr};

use clap::Args;

use super::values;

/// Processes that are chosen by what they are, at every moment.
#[derive(Args, Clone, Debug, Default)]
pub struct ChoiceArgs {
    /// Trace the processes in this control group and in those below it, while they are there: a folder of the cgroup2
    /// file system, or what /proc/PID/cgroup says
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<PathBuf>,

    /// Trace the processes of this user, by name or number
    #[arg(long = "user", value_name = "USER")]
    pub users: Vec<String>,

    /// Trace the processes that execute this file
    #[arg(long = "exe", value_name = "PATH")]
    pub executables: Vec<PathBuf>,

    /// Trace the processes of this name, as /proc/PID/comm has it
    #[arg(long = "name", value_name = "NAME", value_parser = name)]
    pub names: Vec<OsString>,

    /// Do not trace these: pid=N, user=USER, cgroup=PATH, exe=PATH or name=NAME; with -a or the options above
    #[arg(long, value_name = "WHAT=WHICH", requires = "chosen")]
    pub except: Vec<Choice>,
}

/// By what processes are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The process id.
    Process(i32),
    /// A user's name or number.
    User(String),
    /// A control group.
    Cgroup(PathBuf),
    /// The file that is executed.
    Executable(PathBuf),
    /// What the process is called.
    Name(OsString),
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Executable(path) => write!(f, "program {}", path.display()),
            Self::Name(name) => write!(f, "name {}", name.to_string_lossy()),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, which) = text
            .split_once('=')
            .ok_or("write it as WHAT=WHICH, such as name=sshd")?;
        if which.is_empty() {
            return Err(format!("{what}= names nothing"));
        }
        Ok(match what {
            "pid" => Self::Process(values::pid(which)?),
            "user" => Self::User(which.into()),
            "cgroup" => Self::Cgroup(which.into()),
            "exe" => Self::Executable(which.into()),
            "name" => Self::Name(name(which)?),
            other => {
                return Err(format!(
                    "{other:?} is not one of pid, user, cgroup, exe, name"
                ))
            }
        })
    }
}

/// The longest name of a process: `TASK_COMM_LEN` of `include/linux/sched.h`, less the zero byte.
const NAME_MOST: usize = 15;

/// Reads the name of a process.
fn name(text: &str) -> Result<OsString, String> {
    let name = OsString::from(text);
    if name.is_empty() {
        return Err("a name is needed".into());
    }
    if name.as_bytes().len() > NAME_MOST {
        return Err(format!(
            "the kernel keeps {NAME_MOST} bytes of a name: write {:?}, or use --exe",
            String::from_utf8_lossy(&name.as_bytes()[..NAME_MOST])
        ));
    }
    Ok(name)
}

impl ChoiceArgs {
    /// Whom to trace.
    pub fn chosen(&self) -> impl Iterator<Item = Choice> + '_ {
        let cgroups = self.cgroups.iter().cloned().map(Choice::Cgroup);
        let users = self.users.iter().cloned().map(Choice::User);
        let executables = self.executables.iter().cloned().map(Choice::Executable);
        let names = self.names.iter().cloned().map(Choice::Name);
        cgroups.chain(users).chain(executables).chain(names)
    }

    /// Whether there is any rule.
    pub fn is_empty(&self) -> bool {
        self.chosen().next().is_none() && self.except.is_empty()
    }
}

impl std::fmt::Display for ChoiceArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |choices: &mut dyn Iterator<Item = Choice>| {
            let words: Vec<_> = choices.map(|choice| choice.to_string()).collect();
            words.join(", ")
        };
        let chosen = join(&mut self.chosen());
        if chosen.is_empty() {
            f.write_str("all processes")?;
        } else {
            write!(f, "processes of {chosen}")?;
        }
        if !self.except.is_empty() {
            write!(f, " but {}", join(&mut self.except.iter().cloned()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_and_which() {
        assert_eq!("pid=7".parse(), Ok(Choice::Process(7)));
        assert_eq!("user=a".parse(), Ok(Choice::User("a".into())));
        assert_eq!("exe=/a=b".parse(), Ok(Choice::Executable("/a=b".into())));
        assert_eq!("name=sshd".parse(), Ok(Choice::Name("sshd".into())));
        assert_eq!("cgroup=/x".parse(), Ok(Choice::Cgroup("/x".into())));
        for wrong in [
            "sshd",
            "pid=0",
            "pid=x",
            "name=",
            "uid=3",
            "name=0123456789abcdef",
        ] {
            assert!(!wrong.parse::<Choice>().unwrap_err().is_empty(), "{wrong}");
        }
        let error = "name=kworker-and-more".parse::<Choice>().unwrap_err();
        assert!(error.contains("\"kworker-and-mor\""), "{error}");
    }

    #[test]
    fn in_words() {
        let mut choice = ChoiceArgs {
            except: vec![Choice::Process(7)],
            ..ChoiceArgs::default()
        };
        assert_eq!(choice.to_string(), "all processes but process 7");
        choice.users.push("www-data".into());
        choice.cgroups.push("/a".into());
        choice.except.clear();
        assert_eq!(choice.to_string(), "processes of cgroup /a, user www-data");
        assert!(!choice.is_empty() && ChoiceArgs::default().is_empty());
    }
}
