// SPDX-License-Identifier: GPL-2.0-only

//! The way in of all recordings: a session for what the command line names, rounds until it has ended, and the end.
//!
//! ```text
//! let launch = Launch::set_up(…)?;          the session is configured, a command waits for its exec
//! let mut live = launch.start()?;           the session records
//! while let Some(due) = live.next_round(…)? { … }
//! live.end(…)                               the session is stopped, the command awaited
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, Context as _};
use clap::ValueEnum as _;
use fault_tracer_client::{uapi, Clock, Error, Hook, Mode, Session, Settings, Stacks};
use fault_tracer_recorder::Failure;
use fault_tracer_trace::{Nodes, PageSize};

mod asking;
mod choice;
mod command;
mod ends;
mod events;
mod observe;
mod signals;
mod target;

pub use asking::{ask, recordings, Asker};
pub use command::NotRun;
pub use observe::{account_of, observe, require_target};

use crate::{
    args, exit, note, say,
    text::{
        numbers::{counted, duration},
        summary::{contradiction, summary, Ended},
    },
};
use events::Event;
use target::Target;

/// What recordings do differently before they start.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// See [`fault_tracer_client::Settings::sideband`].
    pub sideband: bool,
    /// See [`fault_tracer_client::Settings::latency`].
    pub latency: bool,
    /// See [`fault_tracer_client::Settings::stacks`].
    pub stacks: Stacks,
    /// What sees the faults.
    pub hook: args::HookName,
    /// See [`fault_tracer_client::Settings::clock`].
    pub clock: Clock,
    /// When to end in any case.
    pub duration: Option<Duration>,
    /// Whether what is recorded stays in the rings until somebody asks for it.
    pub on_demand: bool,
}

/// A signal ends a recording when the targets have ended, too, but no later than this: what they do at their end is
/// part of it, and proves it.
const GRACE: Duration = Duration::from_millis(300);

/// A command that ends later than this after the recording is waited for in so many words.
const PATIENCE: Duration = Duration::from_millis(500);

/// A wait that may be longer is asked for again.
const LONG: Duration = Duration::from_secs(3600);

/// A session that is set up and not started.
pub struct Launch {
    session: Session,
    settings: Settings,
    /// Whether the kprobe may stand in for a hook that the kernel has not.
    falls_back: bool,
    target: Target,
    what: String,
    duration: Option<Duration>,
    on_demand: bool,
    events: events::Sender,
    received: events::Receiver,
}

impl Launch {
    /// Sets up a session for what the command line names. A command is forked and waits.
    pub fn set_up(arguments: &args::TargetArgs, how: &How) -> anyhow::Result<Self> {
        let hook = hook(how.hook)?;
        let session = Session::open()?;
        let (events, received) = events::channel()?;
        let settings = settings(arguments, how, hook);
        let target = Target::set_up(arguments, &session, &settings)?;
        Ok(Self {
            session,
            settings,
            falls_back: hook == args::HookName::Auto,
            what: target.to_string(),
            target,
            duration: how.duration,
            on_demand: how.on_demand,
            events,
            received,
        })
    }

    /// Has the session record a selection of the faults.
    pub fn select<'a>(
        &self,
        filter: &uapi::Filter,
        mappings: impl Iterator<Item = &'a [u8]>,
    ) -> anyhow::Result<()> {
        self.session.set_filter(filter)?;
        for name in mappings {
            self.session.add_filter_mapping(name)?;
        }
        Ok(())
    }

    fn start_session(&self) -> anyhow::Result<()> {
        if matches!(self.target, Target::Adopted(_)) {
            return Ok(());
        }
        match self.session.start() {
            Err(Error::NoFtraceHook) if self.falls_back => {
                self.session.configure(&Settings {
                    hook: Hook::Kprobe,
                    ..self.settings
                })?;
                Ok(self.session.start()?)
            }
            other => Ok(other?),
        }
    }

    /// Starts the session, then the command.
    pub fn start(self) -> anyhow::Result<Live> {
        // Before: whoever sees the session may end it by a signal.
        let command = match &self.target {
            Target::Command(waiting, _) | Target::Chosen(_, Some(waiting)) => Some(waiting.pidfd()),
            Target::Processes(_) | Target::All | Target::Chosen(_, None) | Target::Adopted(_) => {
                None
            }
        };
        signals::watch(self.events.clone(), command)?;
        if self.on_demand {
            signals::watch_for_asking(self.events.clone())?;
        }
        self.start_session()?;
        let Self {
            session,
            settings: _,
            falls_back: _,
            target,
            what,
            duration,
            on_demand,
            events,
            received,
        } = self;
        let mut awaits_ends = false;
        if on_demand {
            asking::listen(events.clone())?;
            if let Target::Processes(processes) = &target {
                ends::watch(processes, events.clone())?;
                awaits_ends = true;
            }
        }
        let adopted = matches!(target, Target::Adopted(_));
        let ends = match target {
            Target::Chosen(_, Some(_)) => Ends::WithCommand,
            Target::Chosen(_, None) => Ends::WhenAsked,
            _ => Ends::WithTargets,
        };
        let started = Instant::now();
        let command = match target {
            Target::Command(waiting, _) | Target::Chosen(_, Some(waiting)) => {
                Some(Command::watch(waiting.release()?, events)?)
            }
            Target::Processes(_) | Target::All | Target::Chosen(_, None) | Target::Adopted(_) => {
                None
            }
        };
        let page_bytes = session.page_bytes();
        Ok(Live {
            ring_bytes: session.info()?.ring_bytes,
            page_size: PageSize::of_bytes(page_bytes).with_context(|| {
                format!("pages of {page_bytes} bytes, as this kernel has, are not known to this program")
            })?,
            session: Rc::new(session),
            what,
            adopted,
            ends,
            awaits_ends,
            started,
            deadline: duration.and_then(|time| started.checked_add(time)),
            next_due: None,
            is_last: false,
            events: received,
            command,
            command_took: None,
        })
    }
}

/// Rings for copies of stacks, which take no more than an eighth of the memory together, if that is enough for them.
fn ring_kib_of_copies(memory: u64, cpus: u64) -> u64 {
    let mut kib = args::RING_KIB_COPIES;
    while kib > args::RING_KIB_DEFAULT && kib * 1024 * cpus > memory / 8 {
        kib /= 2;
    }
    kib
}

/// Bytes of the machine's memory.
fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram * u64::from(info.mem_unit)
}

/// Processors that are there.
fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

/// How the session of a command line records.
fn settings(arguments: &args::TargetArgs, how: &How, hook: args::HookName) -> Settings {
    let ring_kib = arguments.ring_kib.unwrap_or(match how.stacks {
        Stacks::None => args::RING_KIB_DEFAULT,
        Stacks::Frames(_) => args::RING_KIB_FRAMES,
        Stacks::Copy(_) | Stacks::FramesOrCopy(_) => ring_kib_of_copies(total_memory(), cpus()),
    });
    Settings {
        ring_bytes: ring_kib * 1024,
        mode: match arguments.mode {
            Some(mode) => mode.into(),
            None if how.on_demand => Mode::Overwrite,
            None => Mode::Discard,
        },
        follow: !arguments.no_follow,
        all: arguments.all,
        sideband: how.sideband,
        latency: how.latency,
        stacks: how.stacks,
        hook: match hook {
            args::HookName::Kprobe => Hook::Kprobe,
            args::HookName::Auto | args::HookName::Ftrace => Hook::Ftrace,
        },
        clock: how.clock,
        watermark_bytes: 0,
        retell: how.on_demand,
    }
}

/// The variable of the environment that says what sees the faults where the command line leaves it open.
const HOOK_VARIABLE: &str = "FAULT_TRACER_HOOK";

/// What sees the faults.
fn hook(asked: args::HookName) -> anyhow::Result<args::HookName> {
    if asked != args::HookName::Auto {
        return Ok(asked);
    }
    let Some(said) = std::env::var_os(HOOK_VARIABLE).filter(|said| !said.is_empty()) else {
        return Ok(asked);
    };
    let known = said
        .to_str()
        .and_then(|name| args::HookName::from_str(name, false).ok());
    known.with_context(|| {
        format!("{HOOK_VARIABLE} is {said:?}: say auto, kprobe or ftrace, or unset it")
    })
}

/// When a recording ends, if nothing else ends it before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// When all targets have ended.
    WithTargets,
    /// When the command has: who is traced comes and goes.
    WithCommand,
    /// By a signal or after a time alone.
    WhenAsked,
}

/// A session that records.
pub struct Live {
    session: Rc<Session>,
    what: String,
    adopted: bool,
    ends: Ends,
    /// How the named processes end is to be told before the recording ends.
    awaits_ends: bool,
    started: Instant,
    deadline: Option<Instant>,
    ring_bytes: u64,
    page_size: PageSize,
    /// When the next round is due; `None` before the first.
    next_due: Option<Instant>,
    /// The round that was asked for last takes the last of all targets.
    is_last: bool,
    events: events::Receiver,
    command: Option<Command>,
    command_took: Option<Duration>,
}

impl Live {
    /// The session, for the recording to hold while rounds are waited for. It ends when nobody holds it.
    pub fn session(&self) -> Rc<Session> {
        Rc::clone(&self.session)
    }

    /// Bytes of each CPU's ring.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// How large the machine's pages are.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Whether it has a command, which shares the terminal.
    pub fn has_command(&self) -> bool {
        self.command.is_some()
    }

    /// What is traced, in words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Waits until the rings are to be read: when one has filled up to the watermark (`Some(false)`) and once in each
    /// `period` (`Some(true)`, due). `None` when the targets have ended, the time is over or a signal came: what
    /// was not taken is still in the rings, and the session is stopped.
    pub fn next_round(&mut self, period: Duration) -> Result<Option<bool>, Failure> {
        if let Some(due) = self.next_due {
            if self.is_last || self.wait(due)? {
                self.stop()?;
                return Ok(None);
            }
        }
        // Asked before the round: whatever the targets did is in the rings when it says none is left.
        let live = self.session.info()?.live_targets;
        let now = Instant::now();
        let next_due = self.next_due.unwrap_or(now + period);
        let due = now >= next_due;
        self.next_due = Some(if due { now + period } else { next_due });
        let is_over = match self.ends {
            Ends::WithTargets => live == 0,
            Ends::WithCommand => self.command_took.is_some(),
            Ends::WhenAsked => false,
        };
        self.is_last = is_over || self.deadline.is_some_and(|deadline| now >= deadline);
        Ok(Some(due))
    }

    /// Waits until somebody asks for what is in the rings. `None` when the targets have ended, the time is over or a signal
    /// came; the session goes on until [`Live::close`].
    pub fn next_asker(&mut self) -> anyhow::Result<Option<Asker>> {
        let mut targets_are_gone = false;
        loop {
            let now = Instant::now();
            let ends_are_known =
                !self.awaits_ends && (self.command.is_none() || self.command_took.is_some());
            let is_over = match self.ends {
                Ends::WithCommand => self.command_took.is_some(),
                Ends::WithTargets | Ends::WhenAsked => targets_are_gone && ends_are_known,
            };
            if is_over || self.deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(None);
            }
            let time = self.deadline.map_or(LONG, |deadline| deadline - now);
            let event = if targets_are_gone {
                self.events.next_within(Some(time))?
            } else {
                let ready = self.session.wait_for_end(self.events.as_fd(), time)?;
                targets_are_gone = ready.ended;
                ready.other.then(|| self.events.next()).transpose()?
            };
            match event {
                Some(Event::Asked(asker)) => return Ok(Some(asker)),
                Some(Event::Ended(how)) => return Ok(Some(Asker::BadEnd(how))),
                Some(Event::AllEnded) => self.awaits_ends = false,
                Some(Event::Signal) if self.command.is_none() => return Ok(None),
                Some(Event::Signal) => self.end_soon(),
                Some(Event::CommandEnded(status, when)) => {
                    let status_known = status.as_ref().ok();
                    let how = status_known.and_then(|&status| ends::badly("the command", status));
                    self.command_ended(status, when)?;
                    if let Some(how) = how {
                        return Ok(Some(Asker::BadEnd(how)));
                    }
                }
                None => {}
            }
        }
    }

    fn end_soon(&mut self) {
        let grace = Instant::now() + GRACE;
        self.deadline = Some(self.deadline.map_or(grace, |old| old.min(grace)));
    }

    /// Waits until there is something to take or `due` has come. Whether the recording has ended.
    fn wait(&mut self, due: Instant) -> Result<bool, Failure> {
        let until = self.deadline.map_or(due, |deadline| deadline.min(due));
        let timeout = until.saturating_duration_since(Instant::now());
        let ready = self.session.wait(self.events.as_fd(), timeout)?;
        if ready.other {
            match self.events.next()? {
                Event::Signal if self.command.is_none() => return Ok(true),
                Event::Signal => self.end_soon(),
                Event::CommandEnded(status, when) => self.command_ended(status, when)?,
                // Of recordings that wait for it alone.
                Event::Asked(_) | Event::Ended(_) | Event::AllEnded => {}
            }
        } else if ready.ended
            && (self.ends != Ends::WithTargets || self.session.info()?.live_targets != 0)
        {
            // Stopped from elsewhere.
            return Ok(true);
        }
        Ok(false)
    }

    /// The session of the module's parameters goes on: others may drain it later.
    fn stop(&self) -> Result<(), Failure> {
        if !self.adopted {
            self.session.stop()?;
        }
        Ok(())
    }

    fn command_ended(
        &mut self,
        status: io::Result<ExitStatus>,
        when: Instant,
    ) -> anyhow::Result<()> {
        self.command_took = Some(when.saturating_duration_since(self.started));
        let left = self.session.info()?.live_targets;
        if left != 0 && self.ends == Ends::WithTargets {
            note(&format!(
                "the command has ended; still traced: {} that it started; Ctrl-C ends the \
                 recording",
                counted(left.into(), "process", "processes")
            ));
        }
        if let Some(command) = &mut self.command {
            command.status = Some(status);
        }
        Ok(())
    }

    /// How long the command ran, if it has ended; else how long the recording runs.
    pub fn took(&self) -> Duration {
        self.command_took.unwrap_or_else(|| self.started.elapsed())
    }

    /// Says how the recording into the file `name` went, and waits for the command. Returns the exit status.
    pub fn end(self, result: Result<Ended, Failure>, name: &str) -> anyhow::Result<u8> {
        let took = self.started.elapsed();
        let failed = match result {
            Ok(ended) => {
                for line in summary(&self.what, name, took, self.ring_bytes, &ended) {
                    note(&line);
                }
                contradiction(&ended)
            }
            // Whoever reads the other end has seen enough.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                note(&format!(
                    "the reader of {name} has left: the recording has ended after {}",
                    duration(took)
                ));
                None
            }
            Err(Failure::Output(error)) => Some(anyhow!(error).context(format!(
                "{name} cannot be written on: the recording ends here, and is incomplete"
            ))),
            Err(Failure::Module(error)) => Some(error.context(format!("{name} is incomplete"))),
        };
        self.close(failed)
    }

    /// Ends the recording, says why it `failed`, and waits for the command. Returns the exit status.
    pub fn close(self, failed: Option<anyhow::Error>) -> anyhow::Result<u8> {
        // Ends the recording in any case, before the rest of the command is awaited.
        drop(self.session);
        let Some(mut command) = self.command else {
            return failed.map_or(Ok(0), Err);
        };
        // Said at once: the command may run for long.
        if let Some(error) = &failed {
            say(&format!("{error:#}"));
        }
        let status = command.wait(&self.events)?;
        Ok(if failed.is_some() {
            exit::FAILED_WITH_COMMAND
        } else {
            exit::of_command(status)
        })
    }
}

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
                let status = child.wait();
                events.send(Event::CommandEnded(status, Instant::now()));
            })?;
        Ok(Self { pid, status: None })
    }

    /// Waits for its end.
    fn wait(&mut self, events: &events::Receiver) -> anyhow::Result<ExitStatus> {
        let mut said = false;
        loop {
            if let Some(status) = self.status.take() {
                return status.context("the command's status cannot be had");
            }
            let patience = (!said).then_some(PATIENCE);
            let Some(event) = events.next_within(patience)? else {
                note(&format!(
                    "the recording has ended; waiting for the command (process {}) to end, too; \
                     Ctrl-C leaves it running",
                    self.pid
                ));
                said = true;
                continue;
            };
            match event {
                Event::CommandEnded(status, _) => self.status = Some(status),
                // The next signal ends the tool, see `signals`.
                Event::Signal | Event::Asked(_) | Event::Ended(_) | Event::AllEnded => {}
            }
        }
    }
}

/// The NUMA nodes of this machine's CPUs; none where the kernel knows of no nodes.
///
/// # Errors
///
/// If the kernel's list of CPUs cannot be read.
pub fn nodes() -> anyhow::Result<Nodes> {
    // Each CPU has a link to its node: drivers/base/node.c, `register_cpu_under_node`.
    const FOLDER: &str = "/sys/devices/system/cpu";
    let mut found = Vec::new();
    for path in entries(Path::new(FOLDER))? {
        let Some(cpu) = number_behind("cpu", &path) else {
            continue;
        };
        let names = entries(&path)?;
        let node = names.iter().find_map(|name| number_behind("node", name));
        found.extend(node.map(|node| (cpu, node)));
    }
    Ok(found.into_iter().collect())
}

/// What is in a folder.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
    });
    entries.with_context(|| folder.display().to_string())
}

/// The number in a name such as `cpu12`.
fn number_behind(word: &str, path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(word)?.parse().ok()
}

/// Name, release and machine of the running kernel.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()]
        .map(|part| part.to_string_lossy())
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_of_copies_leave_memory_to_others() {
        let gib = 1 << 30;
        assert_eq!(ring_kib_of_copies(64 * gib, 16), 64 << 10);
        assert_eq!(ring_kib_of_copies(16 * gib, 64), 32 << 10);
        assert_eq!(ring_kib_of_copies(gib, 64), 4 << 10);
        assert!(total_memory() > gib / 8 && cpus() >= 1);
    }
}
