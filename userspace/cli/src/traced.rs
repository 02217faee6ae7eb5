// SPDX-License-Identifier: GPL-2.0-only

//! Traces a command or processes until they have ended or a signal comes: what `drain` and `record` have
//! in common.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, Context as _};
use fault_tracer_client::{uapi, Clock, Mode, Session, Settings};

use crate::{
    args,
    collector::Failure,
    command::Waiting,
    events::{self, Event},
    format::counted,
    output::Output,
    say, signals,
    summary::{contradiction, summary, Ended},
};

/// What the two subcommands do differently before the recording starts.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// See [`Settings::sideband`].
    pub sideband: bool,
    /// See [`Settings::latency`].
    pub latency: bool,
    /// See [`Settings::clock`].
    pub clock: Clock,
    /// When to end in any case.
    pub duration: Option<Duration>,
}

/// A session that has been started.
pub struct Running<'a> {
    /// The session.
    pub session: &'a Session,
    /// What is traced, in words.
    pub what: &'a str,
    adopted: bool,
    deadline: Option<Instant>,
    events: &'a events::Receiver,
    command: Option<&'a mut Command>,
}

/// Traces what the command line names, by `record`; returns the exit status.
pub fn run(
    arguments: &args::Target,
    how: &How,
    output: Option<&Path>,
    record: impl FnOnce(&mut Running<'_>, &mut Output) -> Result<Ended, Failure>,
) -> anyhow::Result<u8> {
    if arguments.command.is_empty() && std::env::args_os().next_back().is_some_and(|a| a == "--") {
        bail!("there is no command after --");
    }
    let session = Session::open()?;
    let (events, received) = events::channel()?;
    let target = Target::set_up(arguments, &session, how)?;
    let mut output = Output::open(output)?;
    let what = target.to_string();
    let adopted = matches!(target, Target::Adopted(_));
    let mut command = match target {
        Target::Command(waiting, _) => {
            signals::watch(events.clone(), Some(waiting.pidfd()))?;
            session.start()?;
            Some(Command::watch(waiting.release()?, events)?)
        }
        Target::Processes(_) | Target::All => {
            signals::watch(events, None)?;
            session.start()?;
            None
        }
        Target::Adopted(_) => {
            signals::watch(events, None)?;
            None
        }
    };
    let started = Instant::now();
    let mut running = Running {
        session: &session,
        what: &what,
        adopted,
        deadline: how.duration.and_then(|time| started.checked_add(time)),
        events: &received,
        command: command.as_mut(),
    };
    let result = record(&mut running, &mut output);
    let took = started.elapsed();
    let name = output.name();
    drop(output);
    let failed = match result {
        Ok(ended) => {
            let ring_bytes = session.info()?.ring_bytes;
            for line in summary(&what, &name, took, ring_bytes, &ended) {
                say(&line);
            }
            contradiction(&ended)
        }
        // Whoever reads the other end has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => None,
        Err(Failure::Output(error)) => Some(anyhow!(error).context(format!(
            "{name} cannot be written; the recording is incomplete"
        ))),
        Err(Failure::Module(error)) => Some(error.context(format!("{name} is incomplete"))),
    };
    // Ends the recording in any case, before the rest of the command is awaited.
    drop(session);
    let status = match command {
        Some(mut command) => {
            // Said at once: the command may run for long.
            if let Some(error) = &failed {
                say(&format!("{error:#}"));
            }
            let status = command.wait(&received)?;
            if failed.is_some() {
                return Ok(crate::FAILED_WITH_COMMAND);
            }
            exit_status(status)
        }
        None => 0,
    };
    failed.map_or(Ok(status), Err)
}

impl Running<'_> {
    /// Calls `round` until the targets have ended, the time is over or a signal comes, then stops the
    /// session: what `round` did not take is still in the rings.
    ///
    /// `round` is called when a ring has filled up to the watermark, with `false`, and once in each `period`
    /// with `true`. Nothing else is done in between.
    pub fn follow(
        &mut self,
        period: Duration,
        mut round: impl FnMut(bool) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let session = self.session;
        let mut next = Instant::now() + period;
        loop {
            // Asked before the round: whatever the targets did is in the rings when it says none is left.
            let live = session.info()?.live_targets;
            let now = Instant::now();
            let due = now >= next;
            if due {
                next = now + period;
            }
            round(due)?;
            let now = Instant::now();
            if live == 0 || self.deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            let until = self.deadline.map_or(next, |deadline| deadline.min(next));
            let ready = session.wait(self.events.as_fd(), until.saturating_duration_since(now))?;
            if ready.other {
                match self.events.next()? {
                    Event::Signal => break,
                    Event::CommandEnded(status) => self.command_ended(status)?,
                }
            } else if ready.ended && session.info()?.live_targets != 0 {
                // Stopped from elsewhere.
                break;
            }
        }
        // The session of the module's parameters goes on: others may drain it later.
        if !self.adopted {
            session.stop()?;
        }
        Ok(())
    }

    fn command_ended(&mut self, status: io::Result<ExitStatus>) -> Result<(), Failure> {
        let left = self.session.info()?.live_targets;
        if left != 0 {
            say(&format!(
                "the command has ended; still traced: {} that it started; Ctrl-C ends the \
                 recording",
                counted(left.into(), "process", "processes")
            ));
        }
        if let Some(command) = self.command.as_deref_mut() {
            command.status = Some(status);
        }
        Ok(())
    }
}

/// What is traced.
enum Target {
    /// A command that waits to be executed, and how it is written.
    Command(Waiting, String),
    /// Running processes, by id and name.
    Processes(Vec<(i32, String)>),
    /// Every process.
    All,
    /// The target of the module's parameters, by id in the initial namespace and name.
    Adopted(Option<(i32, String)>),
}

impl Target {
    /// Sets up the session for what the command line names; it is not started yet.
    fn set_up(arguments: &args::Target, session: &Session, how: &How) -> anyhow::Result<Self> {
        if arguments.command.is_empty() && arguments.pids.is_empty() && !arguments.all {
            session.adopt()?;
            return Ok(Self::Adopted(boot_target(session)?));
        }
        let ring_kib = arguments.ring_kib.unwrap_or(args::RING_KIB_DEFAULT);
        session.configure(&Settings {
            ring_bytes: ring_kib * 1024,
            mode: arguments.mode.map_or(Mode::Discard, Mode::from),
            follow: !arguments.no_follow,
            all: arguments.all,
            sideband: how.sideband,
            latency: how.latency,
            clock: how.clock,
            watermark_bytes: 0,
        })?;
        if arguments.all {
            return Ok(Self::All);
        }
        if arguments.command.is_empty() {
            let mut processes = Vec::new();
            for &pid in &arguments.pids {
                session.add_target(pid)?;
                processes.push((pid, process_name(pid)));
            }
            return Ok(Self::Processes(processes));
        }
        let waiting = Waiting::fork(&arguments.command)?;
        session.add_target(waiting.pid().as_raw_pid())?;
        Ok(Self::Command(waiting, shell_words(&arguments.command)))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes = match self {
            Self::Command(_, words) => return f.write_str(words),
            Self::Processes(processes) => processes.as_slice(),
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

/// A process's name; a question mark where there is none to be found.
fn process_name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
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

/// Name, release and machine of the running kernel.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()]
        .map(|part| part.to_string_lossy())
        .join(" ")
}

/// A command that ends later than this after the recording is waited for in so many words.
const PATIENCE: Duration = Duration::from_millis(500);

/// The command while it runs, and its status when it has ended.
struct Command {
    pid: u32,
    status: Option<io::Result<ExitStatus>>,
}

impl Command {
    /// Sends [`Event::CommandEnded`] when it has ended.
    fn watch(mut child: Child, events: events::Sender) -> anyhow::Result<Self> {
        let pid = child.id();
        thread::Builder::new()
            .name("command".into())
            .spawn(move || {
                events.send(Event::CommandEnded(child.wait()));
            })?;
        Ok(Self { pid, status: None })
    }

    /// Waits for its end.
    fn wait(&mut self, events: &events::Receiver) -> anyhow::Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = self.status.take() {
                return status.context("the command's status cannot be had");
            }
            let patience = (!told).then_some(PATIENCE);
            let Some(event) = events.next_within(patience)? else {
                say(&format!(
                    "the recording has ended; waiting for the command (process {}) to end, too; \
                     Ctrl-C leaves it running",
                    self.pid
                ));
                told = true;
                continue;
            };
            match event {
                Event::CommandEnded(status) => self.status = Some(status),
                // The next signal ends the tool, see `signals`.
                Event::Signal => {}
            }
        }
    }
}

/// The exit status that a shell gives for a command's.
fn exit_status(status: ExitStatus) -> u8 {
    // CAST: an exit status has eight bits, and there are 64 signals.
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => crate::FAILED_WITH_COMMAND,
    }
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
    fn exit_statuses_are_those_of_a_shell() {
        assert_eq!(exit_status(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_status(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn processes_are_named() {
        let target = Target::Processes(vec![(1, "init".into()), (7, "?".into())]);
        assert_eq!(target.to_string(), "init (process 1), ? (process 7)");
        assert_eq!(Target::All.to_string(), "all processes");
        assert_ne!(process_name(std::process::id() as i32), "?");
    }
}
