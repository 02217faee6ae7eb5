// SPDX-License-Identifier: GPL-2.0-only

//! Starts the command to trace: it waits between its fork and its exec until the recording runs.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{anyhow, Context as _};
use rustix::{
    pipe::{pipe_with, PipeFlags},
    process::{Pid, PidfdFlags},
};

use crate::inherited::Inherited;

/// The command could not be executed.
#[derive(Debug)]
pub struct NotRun {
    program: String,
    source: io::Error,
}

impl NotRun {
    /// The exit status that a shell gives in this case.
    pub fn status(&self) -> u8 {
        match self.source.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.kind() {
            io::ErrorKind::NotFound => write!(
                f,
                "{}: command not found (or, of a script, its interpreter)",
                self.program
            ),
            _ => write!(f, "{} cannot be executed", self.program),
        }
    }
}

impl std::error::Error for NotRun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.source.kind() {
            io::ErrorKind::NotFound => None,
            _ => Some(&self.source),
        }
    }
}

/// A process that is forked and waits to execute the command.
///
/// Dropped, it ends without having executed anything.
pub struct Waiting {
    program: String,
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    gate: OwnedFd,
    thread: JoinHandle<io::Result<Child>>,
}

impl Waiting {
    /// Forks.
    pub fn fork(arguments: &[OsString]) -> anyhow::Result<Self> {
        let (program, rest) = arguments
            .split_first()
            .context("there is no command after --")?;
        let (gate_reader, gate) = pipe_with(PipeFlags::CLOEXEC)?;
        let (pid_reader, pid_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(program);
        command.args(rest);
        let gate_in_child = gate.as_raw_fd();
        let inherited = Inherited::of_this_thread()?;
        let wait_at_gate = move || {
            let pid = rustix::process::getpid().as_raw_pid().to_ne_bytes();
            rustix::io::write(&pid_writer, &pid)?;
            // The child's own copy of the gate's other end must go, or it would wait for ever when the
            // tool ends without opening it.
            // SAFETY: In the child, nothing uses this descriptor after this.
            unsafe { rustix::io::close(gate_in_child) };
            let mut opened = [0u8];
            match rustix::io::retry_on_intr(|| rustix::io::read(&gate_reader, &mut opened))? {
                0 => Err(io::Error::from(rustix::io::Errno::CANCELED)),
                _ => inherited.restore(),
            }
        };
        // SAFETY: Between fork and exec the closure makes system calls alone: it allocates nothing and
        // takes no lock.
        unsafe { command.pre_exec(wait_at_gate) };
        // `spawn` returns only after the exec, hence the thread.
        let thread = thread::Builder::new()
            .name("exec".into())
            .spawn(move || command.spawn())?;
        let program = program.to_string_lossy().into_owned();
        let mut bytes = [0u8; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&pid_reader, &mut bytes))? {
            4 => {}
            // The writing end is closed: there was no fork.
            _ => {
                return Err(match join(thread) {
                    Ok(_) => anyhow!("the process for {program} did not tell its id"),
                    Err(error) => anyhow!(error).context("no process can be made"),
                })
            }
        }
        let pid = Pid::from_raw(i32::from_ne_bytes(bytes)).context("a process without an id")?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .with_context(|| format!("process {pid}, made for {program}, cannot be referred to"))?;
        Ok(Self {
            program,
            pid,
            pidfd: Arc::new(pidfd),
            gate,
            thread,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that names the process, also after its end.
    pub fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Lets it execute the command.
    pub fn release(self) -> anyhow::Result<Child> {
        rustix::io::retry_on_intr(|| rustix::io::write(self.gate.as_fd(), &[1]))?;
        join(self.thread).map_err(|source| {
            NotRun {
                program: self.program,
                source,
            }
            .into()
        })
    }
}

fn join(thread: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::ExitStatusExt as _, path::Path};

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    #[test]
    fn nothing_runs_before_the_release() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let waiting = Waiting::fork(&words(&["touch", mark.to_str().unwrap()])).unwrap();
        let executable = format!("/proc/{}/exe", waiting.pid());
        assert_eq!(
            std::fs::read_link(executable).unwrap(),
            std::env::current_exe().unwrap()
        );
        assert!(!mark.exists());
        let pid = waiting.pid();
        let mut child = waiting.release().unwrap();
        assert_eq!(child.id(), pid.as_raw_pid() as u32);
        assert!(child.wait().unwrap().success());
        assert!(mark.exists());
    }

    #[test]
    fn dropped_it_ends_without_having_run() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let waiting = Waiting::fork(&words(&["touch", mark.to_str().unwrap()])).unwrap();
        let Waiting { gate, thread, .. } = waiting;
        drop(gate);
        assert!(join(thread).is_err());
        assert!(!mark.exists());
    }

    #[test]
    fn what_is_not_found_is_127_and_what_cannot_run_126() {
        let error = Waiting::fork(&words(&["no-such-command-here"]))
            .unwrap()
            .release()
            .unwrap_err();
        assert!(error.to_string().contains("not found"));
        assert_eq!(error.downcast_ref::<NotRun>().unwrap().status(), 127);

        assert!(Path::new("/etc/passwd").exists());
        let error = Waiting::fork(&words(&["/etc/passwd"]))
            .unwrap()
            .release()
            .unwrap_err();
        assert_eq!(error.downcast_ref::<NotRun>().unwrap().status(), 126);
    }

    #[test]
    fn its_status_is_handed_on() {
        let run = |script: &str| {
            Waiting::fork(&words(&["sh", "-c", script]))
                .unwrap()
                .release()
                .unwrap()
                .wait()
                .unwrap()
        };
        assert_eq!(run("exit 7").code(), Some(7));
        assert_eq!(run("kill -TERM $$").signal(), Some(15));
    }

    /// What a process finds when it begins: signals, limits, descriptors, its group, terminal and nice value, its
    /// environment and its name.
    const INHERITED: &str = r#"{
        echo "$0"
        grep -E '^(Sig(Blk|Ign|Cgt)|Cap|Umask|NoNewPrivs|Seccomp|Groups|Cpus_allowed):' /proc/self/status
        cat /proc/self/limits /proc/self/oom_score_adj /proc/self/timerslack_ns
        for fd in /proc/$$/fd/*; do echo "${fd##*/}"; done
        cut -d ' ' -f 5-8,19,41 /proc/$$/stat
        pwd
        env | grep -v '^_='
    } >"$OUT""#;

    /// This test starts itself as the tool that runs the command, where it finds these variables.
    #[test]
    fn a_command_inherits_what_it_would_have_without_the_tool() {
        let of_command = [INHERITED, "name of the shell"];
        let of_command = words(&[&["sh", "-c"][..], &of_command].concat());
        if std::env::var_os("BY_THE_TOOL").is_some_and(|value| value == "yes") {
            crate::inherited::survive_file_limits();
            let status = Waiting::fork(&of_command)
                .unwrap()
                .release()
                .unwrap()
                .wait();
            assert!(status.unwrap().success());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let own = std::env::current_exe().unwrap();
        let name = "launch::command::tests::a_command_inherits_what_it_would_have_without_the_tool";
        let by_the_tool = [own.into_os_string(), name.into(), "--exact".into()];
        for surroundings in [
            &["env"][..],
            &["env", "--ignore-signal=PIPE,XFSZ,INT,HUP"],
            &["env", "--default-signal", "--block-signal=USR1,TERM,PIPE"],
            &["nice", "-n", "7"],
            &[
                "sh",
                "-c",
                "ulimit -c 0 -n 77; umask 037; exec \"$@\" <&-",
                "sh",
            ],
            &["sh", "-c", "exec \"$@\" 9</dev/null 2>&-", "sh"],
        ] {
            let run = |command: &[OsString], by_the_tool: &str| {
                let status = Command::new(surroundings[0])
                    .args(&surroundings[1..])
                    .args(command)
                    .env("OUT", &out)
                    .env("BY_THE_TOOL", by_the_tool)
                    .stdout(std::process::Stdio::null())
                    .status();
                assert!(status.unwrap().success(), "{surroundings:?}");
                let text = std::fs::read_to_string(&out).unwrap();
                // The harness adds its own.
                let lines = text
                    .lines()
                    .filter(|line| !line.starts_with("BY_THE_TOOL="));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            let without = run(&of_command, "no");
            assert!(without.len() > 20, "{without:?}");
            let with = run(&by_the_tool, "yes");
            let missing: Vec<_> = without.iter().filter(|line| !with.contains(line)).collect();
            let added: Vec<_> = with.iter().filter(|line| !without.contains(line)).collect();
            assert!(
                without == with,
                "{surroundings:?}: {missing:?} instead of {added:?}"
            );
        }
    }

    #[test]
    fn nothing_is_no_command() {
        assert!(Waiting::fork(&[]).is_err());
    }
}
