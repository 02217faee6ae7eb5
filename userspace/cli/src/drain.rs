// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer drain`: records until the targets have ended, or a signal comes.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
    sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, Context as _};
use fault_tracer_client::{uapi, Mode, Session};
use fault_tracer_trace::{csv::Preamble, Access};

use crate::{
    args,
    command::Waiting,
    format::{counted, duration, grouped},
    output::Output,
    pace::Pace,
    recording::{Ended, Failure, Recording},
    say, signals,
};

/// What the recording waits for besides the rings.
pub enum Event {
    /// A signal asks to end.
    Signal,
    /// The command has ended.
    CommandEnded(io::Result<ExitStatus>),
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Drain) -> anyhow::Result<u8> {
    if arguments.command.is_empty() && std::env::args_os().next_back().is_some_and(|a| a == "--") {
        bail!("there is no command after --");
    }
    let session = Session::open()?;
    let (events, received) = channel();
    let target = Target::set_up(arguments, &session)?;
    let mut output = Output::open(arguments.output.as_deref())?;
    let what = target.to_string();
    let adopted = matches!(target, Target::Adopted(_));
    let mut command = match target {
        Target::Command(waiting, _) => {
            signals::watch(events.clone(), Some(waiting.pidfd()))?;
            session.start()?;
            Some(Command::watch(waiting.release()?, events)?)
        }
        Target::Processes(_) => {
            signals::watch(events, None)?;
            session.start()?;
            None
        }
        Target::Adopted(_) => {
            signals::watch(events, None)?;
            None
        }
    };
    let preamble = Preamble {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: kernel(),
        command: what.clone(),
    };
    let started = Instant::now();
    let result = record(
        &session,
        adopted,
        &mut output,
        &preamble,
        &received,
        command.as_mut(),
    );
    let took = started.elapsed();
    let name = output.name();
    drop(output);
    let failed = match result {
        Ok(ended) => {
            let ring_bytes = session.info()?.ring_bytes;
            eprint_lines(&summary(&what, &name, took, ring_bytes, &ended));
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

/// What is traced.
enum Target {
    /// A command that waits to be executed, and how it is written.
    Command(Waiting, String),
    /// Running processes, by id and name.
    Processes(Vec<(i32, String)>),
    /// The target of the module's parameters, by id in the initial namespace and name.
    Adopted(Option<(i32, String)>),
}

impl Target {
    /// Sets up the session for what the command line names; it is not started yet.
    fn set_up(arguments: &args::Drain, session: &Session) -> anyhow::Result<Self> {
        if arguments.command.is_empty() && arguments.pids.is_empty() {
            session.adopt()?;
            return Ok(Self::Adopted(boot_target(session)?));
        }
        let ring_kib = arguments.ring_kib.unwrap_or(args::RING_KIB_DEFAULT);
        let mode = arguments.mode.map_or(Mode::Discard, Mode::from);
        session.configure(ring_kib * 1024, mode, !arguments.no_follow)?;
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
    fn watch(mut child: Child, events: Sender<Event>) -> anyhow::Result<Self> {
        let pid = child.id();
        thread::Builder::new()
            .name("command".into())
            .spawn(move || {
                // Nobody listens any more when the tool is about to exit.
                let _ = events.send(Event::CommandEnded(child.wait()));
            })?;
        Ok(Self { pid, status: None })
    }

    /// Waits for its end.
    fn wait(&mut self, events: &Receiver<Event>) -> anyhow::Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = self.status.take() {
                return status.context("the command's status cannot be had");
            }
            let event = if told {
                events.recv()?
            } else {
                match events.recv_timeout(PATIENCE) {
                    Err(RecvTimeoutError::Timeout) => {
                        say(&format!(
                            "the recording has ended; waiting for the command (process {}) to end, too; \
                             Ctrl-C leaves it running",
                            self.pid
                        ));
                        told = true;
                        continue;
                    }
                    event => event?,
                }
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

/// Records until the targets have ended or a signal comes, and writes everything.
fn record(
    session: &Session,
    adopted: bool,
    output: &mut Output,
    preamble: &Preamble,
    events: &Receiver<Event>,
    mut command: Option<&mut Command>,
) -> Result<Ended, Failure> {
    let mut recording = Recording::new(session, output, preamble)?;
    let info = session.info()?;
    let mut pace = Pace::new(info.ring_bytes, info.fault_record_bytes.into());
    loop {
        // Asked before the round: whatever the targets did is in the rings when it says none is left.
        let live = session.info()?.live_targets;
        let used = recording.round()?;
        if live == 0 {
            break;
        }
        match events.recv_timeout(pace.after(used, info.ring_bytes)) {
            Ok(Event::Signal) => break,
            Ok(Event::CommandEnded(status)) => {
                let left = session.info()?.live_targets;
                if left != 0 {
                    say(&format!(
                        "the command has ended; still traced: {} that it started; Ctrl-C ends the \
                         recording",
                        counted(left.into(), "process", "processes")
                    ));
                }
                if let Some(command) = command.as_deref_mut() {
                    command.status = Some(status);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the threads that wait for signals have ended").into())
            }
        }
    }
    // The session of the module's parameters goes on: others may drain it later.
    if !adopted {
        session.stop()?;
    }
    recording.finish()
}

/// What is wrong with a recording whose counts contradict each other.
fn contradiction(ended: &Ended) -> Option<anyhow::Error> {
    let Ended {
        account,
        tally,
        taken_before,
        late,
    } = ended;
    let mut faults = Vec::new();
    let written = tally.faults() + taken_before;
    if written != account.recorded {
        faults.push(format!(
            "the module counts {} faults as recorded, but {written} were delivered",
            account.recorded
        ));
    }
    if account.hits != account.recorded + account.dropped + account.overwritten {
        faults.push(format!(
            "the module counts {} faults that are neither recorded nor lost",
            account
                .hits
                .abs_diff(account.recorded + account.dropped + account.overwritten)
        ));
    }
    if *late != 0 {
        faults.push(format!("{late} faults stand out of their order"));
    }
    (!faults.is_empty()).then(|| anyhow!("{}: please report this", faults.join("; ")))
}

/// What a person wants to know at the end.
fn summary(what: &str, name: &str, took: Duration, ring_bytes: u64, ended: &Ended) -> Vec<String> {
    let Ended { account, tally, .. } = ended;
    let mut lines = vec![format!("traced {what} for {}", duration(took))];
    let mut accesses = String::new();
    for (access, one, many) in [
        (Access::Read, "read", "reads"),
        (Access::Write, "write", "writes"),
        (Access::Execute, "instruction fetch", "instruction fetches"),
    ] {
        let separator = if accesses.is_empty() { "" } else { ", " };
        let _ = write!(
            accesses,
            "{separator}{}",
            counted(tally.of(access), one, many)
        );
    }
    lines.push(format!(
        "{} ({accesses}) of {}, {}",
        counted(tally.faults(), "fault", "faults"),
        counted(tally.processes().into(), "process", "processes"),
        counted(tally.threads().into(), "thread", "threads"),
    ));
    if ended.taken_before != 0 {
        lines.push(format!(
            "{} of this session were drained before",
            counted(ended.taken_before, "fault", "faults")
        ));
    }
    lines.push(format!(
        "lost: {} ({} dropped, {} overwritten, {} missed)",
        grouped(account.lost()),
        grouped(account.dropped),
        grouped(account.overwritten),
        grouped(account.missed)
    ));
    let kib = ring_bytes / 1024;
    if account.dropped != 0 {
        lines.push(format!(
            "dropped: the rings of {kib} KiB per CPU were full; try --ring-kib {}",
            kib * 4
        ));
    }
    if account.overwritten != 0 {
        lines.push(format!(
            "overwritten: older than what rings of {kib} KiB per CPU hold, as the mode overwrite asks"
        ));
    }
    if account.missed != 0 {
        lines.push(
            "missed: another probe was running on the CPU; stop other tracers of page faults"
                .to_owned(),
        );
    }
    lines.push(format!("written to {name}"));
    lines
}

fn eprint_lines(lines: &[String]) {
    for line in lines {
        say(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;
    use fault_tracer_trace::{Account, Fault};

    fn ended(account: Account) -> Ended {
        let mut tally = Tally::new();
        for tid in 0..account.recorded {
            tally.add(&Fault {
                time_ns: 0,
                cpu: 0,
                pid: 7,
                tid: tid as u32,
                address: 0,
                ip: 0,
                access: Access::Write,
                flags: 0,
            });
        }
        Ended {
            account,
            tally,
            taken_before: 0,
            late: 0,
        }
    }

    #[test]
    fn the_summary_says_what_and_how_many() {
        let ended = ended(Account {
            hits: 1200,
            recorded: 1200,
            ..Default::default()
        });
        let lines = summary("ls -l", "f.csv", Duration::from_millis(1500), 4096, &ended);
        assert_eq!(
            lines,
            [
                "traced ls -l for 1.5 s",
                "1,200 faults (0 reads, 1,200 writes, 0 instruction fetches) of 1 process, 1,200 threads",
                "lost: 0 (0 dropped, 0 overwritten, 0 missed)",
                "written to f.csv",
            ]
        );
        assert!(contradiction(&ended).is_none());
    }

    #[test]
    fn each_kind_of_loss_comes_with_advice() {
        let ended = ended(Account {
            hits: 5,
            recorded: 2,
            dropped: 2,
            overwritten: 1,
            missed: 3,
        });
        let text = summary("x", "y", Duration::ZERO, 1 << 20, &ended).join("\n");
        assert!(text.contains("lost: 6 (2 dropped, 1 overwritten, 3 missed)"));
        assert!(text.contains("try --ring-kib 4096"));
        assert!(text.contains("overwritten: older than what rings of 1024 KiB"));
        assert!(text.contains("missed: another probe"));
    }

    #[test]
    fn counts_that_contradict_each_other_are_told() {
        let mut wrong = ended(Account {
            recorded: 3,
            ..Default::default()
        });
        wrong.account.recorded = 5;
        wrong.account.hits = 5;
        wrong.late = 1;
        let message = contradiction(&wrong).unwrap().to_string();
        assert!(message.contains("5 faults as recorded, but 3"));
        assert!(message.contains("1 faults stand out"));
        wrong.late = 0;
        wrong.taken_before = 2;
        assert!(contradiction(&wrong).is_none());
        wrong.account.hits = 6;
        let message = contradiction(&wrong).unwrap().to_string();
        assert!(message.contains("counts 1 faults that are neither"));
    }

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
        assert_ne!(process_name(std::process::id() as i32), "?");
    }
}
