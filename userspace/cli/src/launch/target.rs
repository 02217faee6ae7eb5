// SPDX-License-Identifier: GPL-2.0-only

//! What is traced: sets up the session for what the command line names.

use std::{ffi::OsString, fs};

use anyhow::bail;
use fault_tracer_client::{
    uapi::{self, names::escape},
    Session, Settings,
};

use super::{choice, command::Waiting};
use crate::args;

/// What is traced.
pub enum Target {
    /// A command that waits to be executed, and how it is written.
    Command(Waiting, String),
    /// Running processes, by id and name.
    Processes(Vec<(i32, String)>),
    /// Every process.
    All,
    /// Processes by what they are, in words; and the command during which they are traced, which waits to be executed.
    Chosen(String, Option<Waiting>),
    /// The target of the module's parameters, by id in the initial namespace and name.
    Adopted(Option<(i32, String)>),
}

impl Target {
    /// Sets up the session for what the command line names; it is not started yet.
    pub fn set_up(
        arguments: &args::TargetArgs,
        session: &Session,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        if !arguments.names_something() {
            session.adopt()?;
            return Ok(Self::Adopted(boot_target(session)?));
        }
        session.configure(settings)?;
        if !arguments.choice.is_empty() {
            choice::add(session, &arguments.choice)?;
            let words = arguments.choice.to_string();
            if arguments.command.is_empty() {
                return Ok(Self::Chosen(words, None));
            }
            let waiting = Waiting::fork(&arguments.command)?;
            let words = format!("{words}, during {}", shell_words(&arguments.command));
            return Ok(Self::Chosen(words, Some(waiting)));
        }
        if arguments.all {
            return Ok(Self::All);
        }
        if arguments.command.is_empty() {
            let mut processes = Vec::new();
            for &pid in &arguments.pids {
                check_process(pid)?;
                session.add_target(pid)?;
                processes.push((pid, process_name(pid)));
            }
            return Ok(Self::Processes(processes));
        }
        let waiting = Waiting::fork(&arguments.command)?;
        session.add_target_on_exec(waiting.pid().as_raw_pid())?;
        Ok(Self::Command(waiting, shell_words(&arguments.command)))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes = match self {
            Self::Command(_, words) => return f.write_str(words),
            Self::Processes(processes) => processes.as_slice(),
            Self::Chosen(words, _) => return f.write_str(words),
            Self::All => return f.write_str("all processes"),
            Self::Adopted(Some(process)) => std::slice::from_ref(process),
            Self::Adopted(None) => return f.write_str("the process of the module's parameters"),
        };
        for (i, (pid, name)) in processes.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{name} (process {pid})")?;
        }
        Ok(())
    }
}

/// The process that the module's parameter names, while its session runs.
fn boot_target(session: &Session) -> anyhow::Result<Option<(i32, String)>> {
    for index in 0..session.max_sessions() {
        if let Some(other) = session.overview(index)? {
            if other.flags & uapi::session_flag::BOOT != 0 {
                return Ok(Some((other.first_target, process_name(other.first_target))));
            }
        }
    }
    Ok(None)
}

/// Refuses what is no process that can fault. What `/proc` does not tell is left to the module.
fn check_process(pid: i32) -> anyhow::Result<()> {
    // In a pid namespace, it may still be the /proc of another one, whose ids are others.
    let own = fs::read_link("/proc/self").unwrap_or_default();
    if own.as_os_str() != &*std::process::id().to_string() {
        return Ok(());
    }
    let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.map_or("", |value| value.trim_start_matches([':', '\t', ' ']))
    };
    let name = field("Name");
    if let Some(tgid @ 1..) = field("Tgid")
        .parse::<i32>()
        .ok()
        .filter(|&tgid| tgid != pid)
    {
        bail!("{pid} is a thread of process {tgid}: trace that with --pid {tgid}");
    }
    if field("State").starts_with(['Z', 'X']) && !has_other_threads(pid) {
        bail!("process {pid} ({name}) has ended: its parent has not waited for it yet");
    }
    if is_kernel_thread(&read("stat")) {
        bail!(
            "{pid} ({name}) is a kernel thread: it has no memory of its own in which it could fault"
        );
    }
    Ok(())
}

/// Whether a process has threads besides its first one, which may have ended before them.
fn has_other_threads(pid: i32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

/// Whether `/proc/PID/stat` is that of a kernel thread.
fn is_kernel_thread(stat: &str) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    // The name may hold anything, also brackets; the flags are the seventh field behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6);
    flags
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// A process's name; a question mark where there is none to be found.
fn process_name(pid: i32) -> String {
    fs::read(format!("/proc/{pid}/comm")).map_or_else(
        |_| "?".into(),
        |name| escape(name.strip_suffix(b"\n").unwrap_or(&name)),
    )
}

/// A command as it would be typed.
fn shell_words(arguments: &[OsString]) -> String {
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    // It fails on zero bytes alone, which an argument cannot hold.
    shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_they_would_be_typed() {
        let words = ["sh", "-c", "echo a b"].map(OsString::from);
        assert_eq!(shell_words(&words), "sh -c 'echo a b'");
    }

    #[test]
    fn what_cannot_fault_is_refused() {
        use std::process::Command;

        check_process(std::process::id() as i32).unwrap();
        // Nobody has it: the module says so.
        check_process(i32::MAX).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while !state().contains(") Z ") {
            std::thread::yield_now();
        }
        let text = check_process(pid).unwrap_err().to_string();
        assert!(text.contains("(true) has ended"), "{text}");
        child.wait().unwrap();
        let text = std::thread::spawn(|| {
            // SAFETY: It has no arguments and cannot fail.
            let tid = unsafe { libc::gettid() };
            check_process(tid).unwrap_err().to_string()
        });
        let text = text.join().unwrap();
        let own = std::process::id();
        assert!(
            text.contains(&format!("trace that with --pid {own}")),
            "{text}"
        );
        // [kthreadd], and a process with a name as odd as can be.
        assert!(is_kernel_thread("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0"));
        assert!(!is_kernel_thread("7 (a) S 0 0) S 1 7 7 0 -1 4194560 0 0 0"));
        assert!(!is_kernel_thread(""));
    }

    #[test]
    fn processes_are_named() {
        let target = Target::Processes(vec![(1, "init".into()), (7, "?".into())]);
        assert_eq!(target.to_string(), "init (process 1), ? (process 7)");
        assert_eq!(Target::All.to_string(), "all processes");
        assert_ne!(process_name(std::process::id() as i32), "?");
    }
}
