// SPDX-License-Identifier: GPL-2.0-only

//! Sessions: set up while idle, recording while running, still to be drained when stopped.
//!
//! Lock order: a session's `inner`, then the registry's lock. `bounce` is held while user memory is
//! written, and nothing is locked under it. The fault path takes no lock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        lock::{mutex::MutexBackend, Guard},
        Arc, Mutex, SetOnce,
    },
};

use super::{
    arch, compat,
    filter::Filter,
    process::{self, Process},
    registry::{self, Deaf, Named},
    rights::{self, User},
    ring::{self, SLOT_WORDS},
    rings::{self, Rings, Shape},
    rules::{Rule, Rules},
    stack::Wanted,
    targets,
    uapi::{self, clock, mode, session_flag, state},
    wake::Wake,
};

/// How a session records that was not configured.
pub(crate) const DEFAULT: uapi::Config = uapi::Config {
    ring_bytes: 1 << 20,
    mode: mode::DISCARD,
    flags: session_flag::FOLLOW,
    watermark_bytes: 0,
    clock: clock::MONOTONIC,
    stack: 0,
};

/// Processes that a session can name before it is started. More of them are better traced by their parent, or as all.
const NAMED: usize = 10_000;

/// Words of the buffer through which a drain copies: 64 KiB.
const BOUNCE_WORDS: usize = 8192;

/// Why a call was refused: each reason is logged once for each session.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// A value out of its range.
    Config,
    /// What the caller has no right to.
    Rights,
    /// What may not be asked for in a container.
    Namespace,
    /// A call that the state does not allow.
    State,
    /// No such process.
    Process,
    /// A rule that makes no sense, or not there.
    Rule,
    /// A filter that makes no sense, or not there.
    Filter,
    /// No memory, no free session, or a probe that cannot be placed.
    Start,
    /// A bad buffer.
    Buffer,
    /// A bad mapping.
    Map,
    /// An unknown ioctl.
    Ioctl,
}

/// One session.
#[pin_data(PinnedDrop)]
pub(crate) struct Session {
    #[pin]
    inner: Mutex<Inner>,
    /// The rings, from the start on.
    rings: SetOnce<Arc<Rings>>,
    /// A drain's buffer, made by the first.
    #[pin]
    bounce: Mutex<VVec<u64>>,
    wake: Arc<Wake>,
    refused: AtomicU32,
}

/// What a session's lock protects.
struct Inner {
    config: uapi::Config,
    state: State,
}

enum State {
    /// Who is to be traced, which is not needed after the start.
    Idle(Chosen),
    /// The slot in the registry.
    Running(usize),
    /// Faults that the probe missed, and whether it was found not to hear.
    Stopped { missed: u64, deaf: Deaf },
}

/// Whom an idle session will trace, processes by name or by rules; and which of their faults, if not all.
struct Chosen {
    processes: KVVec<Named>,
    rules: KVVec<Rule>,
    filter: Option<KBox<Filter>>,
}

/// Logs, once for each session and reason, why a call was refused, and gives the error back.
macro_rules! refuse {
    ($session:expr, $reason:expr, $error:expr, $($message:tt)*) => {{
        if $session.first($reason) {
            pr_warn!($($message)*);
        }
        $error
    }};
}
pub(crate) use refuse;

impl Session {
    /// Makes an idle session. `config` is taken as it is: only the module itself may give flags other than
    /// [`Session::configure`] accepts.
    pub(crate) fn new(config: uapi::Config) -> Result<Arc<Self>> {
        let wake = Wake::new()?;
        Arc::pin_init(
            pin_init!(Self {
                inner <- new_mutex!(Inner {
                    config,
                    state: State::Idle(Chosen {
                        processes: KVVec::new(),
                        rules: KVVec::new(),
                        filter: None,
                    }),
                }),
                rings: SetOnce::new(),
                bounce <- new_mutex!(VVec::new()),
                wake,
                refused: AtomicU32::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether it is to be said that something is refused for this reason: the first time, unless too much was said of
    /// other files just now.
    pub(crate) fn first(&self, reason: Refusal) -> bool {
        let bit = 1 << reason as u32;
        self.refused.fetch_or(bit, Ordering::Relaxed) & bit == 0 && log_has_room()
    }

    /// Sets up an idle session.
    pub(crate) fn configure(&self, config: &uapi::Config) -> Result {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Idle(_)) {
            return Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "a session can only be configured before it is started\n"
            ));
        }
        if config.flags & session_flag::ALL != 0 && !rights::may_trace_all() {
            return Err(self.is_of_others());
        }
        if config.flags & session_flag::ALL != 0 && !process::in_initial_namespace() {
            return Err(refuse!(
                self,
                Refusal::Namespace,
                EPERM,
                "all processes can be traced from the initial pid namespace alone: from inside a container, name them one by one\n"
            ));
        }
        check_config(config).map_err(|reason| {
            refuse!(
                self,
                Refusal::Config,
                EINVAL,
                "configuration refused: {} (ring of {} bytes, mode {}, flags {:#x})\n",
                reason,
                config.ring_bytes,
                config.mode,
                config.flags
            )
        })?;
        inner.config = *config;
        Ok(())
    }

    /// Adds a target: from now on if running, from the start on if idle; with `on_exec` from the moment on when
    /// it executes a program after that.
    pub(crate) fn add_target(&self, id: i32, on_exec: bool) -> Result {
        let mut inner = self.inner.lock();
        let process = self.find(id)?;
        // Of a session that traces processes of others, whoever may trace his own alone decides nothing.
        let decides = match inner.state {
            State::Running(slot) => rights::is_own(slot),
            _ => true,
        };
        if User::current().is_some() && !(decides && rights::may_look_at(&process)?) {
            return Err(self.is_of_others());
        }
        let named = Named { process, on_exec };
        match &mut inner.state {
            State::Idle(chosen) if !chosen.rules.is_empty() => Err(refuse!(
                self,
                Refusal::Process,
                EINVAL,
                "process {} cannot be named: the session's rules say who is traced\n",
                id
            )),
            State::Idle(Chosen { processes, .. }) => {
                let known = processes
                    .iter_mut()
                    .find(|other| other.process.is(&named.process));
                if let Some(known) = known {
                    known.on_exec &= on_exec;
                } else if processes.len() < NAMED {
                    processes.push(named, GFP_KERNEL)?;
                } else {
                    return Err(refuse!(
                        self,
                        Refusal::Process,
                        ENOSPC,
                        "process {} cannot be traced: a session names {} processes at most; trace their parent, or all\n",
                        id,
                        NAMED
                    ));
                }
                Ok(())
            }
            State::Running(slot) => registry::add(*slot, &named).map_err(|error| {
                let why = match error {
                    ENOSPC => TOO_MANY_WAIT,
                    EACCES => "it is another user's",
                    _ => "it has ended",
                };
                refuse!(
                    self,
                    Refusal::Process,
                    error,
                    "process {} cannot be traced: {}\n",
                    id,
                    why
                )
            }),
            State::Stopped { .. } => Err(self.is_stopped()),
        }
    }

    /// Removes a target.
    pub(crate) fn remove_target(&self, id: i32) -> Result {
        let mut inner = self.inner.lock();
        let process = self.find(id)?;
        let removed = match &mut inner.state {
            State::Idle(Chosen { processes, .. }) => {
                let before = processes.len();
                processes.retain(|other| !other.process.is(&process));
                processes.len() < before
            }
            State::Running(slot) => {
                let removed = registry::remove(*slot, &process);
                // It may have been the last: whoever waits looks anew.
                self.wake.now();
                removed
            }
            State::Stopped { .. } => return Err(self.is_stopped()),
        };
        if removed {
            Ok(())
        } else {
            Err(refuse!(
                self,
                Refusal::Process,
                ESRCH,
                "process {} is not a target of this session\n",
                id
            ))
        }
    }

    /// Adds a rule to an idle session.
    pub(crate) fn add_rule(&self, rule: &uapi::Rule) -> Result {
        let refused = |error: Error, why: &str| {
            refuse!(
                self,
                Refusal::Rule,
                error,
                "rule refused: {} (kind {}, flags {:#x}, value {})\n",
                why,
                rule.kind,
                rule.flags,
                rule.value
            )
        };
        let mut inner = self.inner.lock();
        let State::Idle(chosen) = &mut inner.state else {
            return Err(refused(
                EINVAL,
                "rules are added before the session is started",
            ));
        };
        if !process::in_initial_namespace() {
            return Err(refused(
                EPERM,
                "they are about all processes, which the initial pid namespace alone has",
            ));
        }
        if !chosen.processes.is_empty() {
            return Err(refused(EINVAL, "the session names processes already"));
        }
        if chosen.rules.len() >= uapi::RULES_MAX {
            return Err(refused(ENOSPC, "a session has 64 rules at most"));
        }
        let rule = Rule::new(rule).map_err(|error| {
            refused(
                error,
                if error == ESRCH {
                    "there is no such process"
                } else if error == EBADF {
                    "there is no such open file"
                } else {
                    "it makes no sense"
                },
            )
        })?;
        chosen.rules.push(rule, GFP_KERNEL)?;
        Ok(())
    }

    /// Sets which faults an idle session records. The names of mappings that were added stay.
    pub(crate) fn set_filter(&self, filter: &uapi::Filter) -> Result {
        self.with_filter(|set| set.set(filter))
    }

    /// Adds the name of a mapping to those in which an idle session records faults.
    pub(crate) fn add_filter_mapping(&self, mapping: &uapi::FilterMapping) -> Result {
        self.with_filter(|set| set.add_mapping(mapping))
    }

    fn with_filter(
        &self,
        change: impl FnOnce(&mut Filter) -> Result<(), (Error, &'static str)>,
    ) -> Result {
        let refused = |(error, why): (Error, &str)| {
            refuse!(self, Refusal::Filter, error, "filter refused: {}\n", why)
        };
        let mut inner = self.inner.lock();
        let State::Idle(chosen) = &mut inner.state else {
            return Err(refused((EINVAL, "it is set before the session is started")));
        };
        let filter = match &mut chosen.filter {
            Some(filter) => filter,
            none => none.insert(KBox::new(Filter::default(), GFP_KERNEL)?),
        };
        change(filter).map_err(refused)
    }

    fn find(&self, id: i32) -> Result<Process> {
        if id <= 0 {
            return Err(refuse!(
                self,
                Refusal::Process,
                EINVAL,
                "{} is not a process id: it must be positive\n",
                id
            ));
        }
        Process::find(id).map_err(|error| {
            refuse!(
                self,
                Refusal::Process,
                error,
                "there is no process {}\n",
                id
            )
        })
    }

    fn is_of_others(&self) -> Error {
        refuse!(
            self,
            Refusal::Rights,
            EACCES,
            "call refused: without CAP_PERFMON or CAP_SYS_ADMIN one may trace one's own processes alone, those that ptrace lets one look at\n"
        )
    }

    fn is_stopped(&self) -> Error {
        refuse!(
            self,
            Refusal::State,
            EINVAL,
            "the session is stopped: open the device again for a new one\n"
        )
    }

    /// Starts recording.
    pub(crate) fn start(&self) -> Result {
        let mut inner = self.inner.lock();
        let Inner { config, state } = &mut *inner;
        let State::Idle(chosen) = state else {
            return Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session was already started\n"
            ));
        };
        let user = User::current();
        if user.is_some() {
            // Whoever has named them may have had more rights; and they may have executed other programs since.
            let others = config.flags & session_flag::ALL != 0 || !chosen.rules.is_empty();
            for named in &chosen.processes {
                match rights::may_look_at(&named.process) {
                    Ok(true) => {}
                    // That of one that has ended is found out below.
                    Err(error) if error == ESRCH => {}
                    Ok(false) => return Err(self.is_of_others()),
                    Err(error) => return Err(error),
                }
            }
            if others {
                return Err(self.is_of_others());
            }
        }
        let rules = self.rules(config, chosen)?;
        let filter = self.filter(config, chosen)?;
        let slot = self
            .begin(config, user, &chosen.processes, rules, filter)
            .map_err(|error| {
                refuse!(
                    self,
                    Refusal::Start,
                    error,
                    "cannot record: {} ({} KiB of ring per CPU, {} processes named, {} rules)\n",
                    why_not(error),
                    config.ring_bytes / 1024,
                    chosen.processes.len(),
                    chosen.rules.len()
                )
            })?;
        *state = State::Running(slot);
        Ok(())
    }

    /// The rules of a session that is about to start, if it has some.
    fn rules(&self, config: &uapi::Config, chosen: &Chosen) -> Result<Option<KBox<Rules>>> {
        if chosen.rules.is_empty() {
            return Ok(None);
        }
        let mut list = KVVec::new();
        list.extend_from_slice(&chosen.rules, GFP_KERNEL)?;
        let all = config.flags & session_flag::ALL != 0;
        let rules = Rules::new(list, all);
        rules
            .check()
            .map_err(|why| refuse!(self, Refusal::Rule, EINVAL, "cannot record: {}\n", why))?;
        Ok(Some(KBox::new(rules, GFP_KERNEL)?))
    }

    /// The filter of a session that is about to start, if it has one.
    fn filter(&self, config: &uapi::Config, chosen: &Chosen) -> Result<Option<KBox<Filter>>> {
        let Some(filter) = &chosen.filter else {
            return Ok(None);
        };
        if filter.names_mappings() && config.flags & session_flag::SIDEBAND == 0 {
            return Err(refuse!(
                self,
                Refusal::Filter,
                EINVAL,
                "cannot record: faults are chosen by mappings in sessions with the side-band alone\n"
            ));
        }
        Ok(Some(KBox::new(filter.copy()?, GFP_KERNEL)?))
    }

    /// Does the work of `start`. On error nothing is left behind.
    fn begin(
        &self,
        config: &uapi::Config,
        user: Option<User>,
        processes: &[Named],
        rules: Option<KBox<Rules>>,
        filter: Option<KBox<Filter>>,
    ) -> Result<usize> {
        let shape = Shape {
            ring_bytes: config.ring_bytes as usize,
            ring: ring::Shape {
                overwrite: config.mode == mode::OVERWRITE,
                watermark_bytes: match config.watermark_bytes {
                    0 => config.ring_bytes / 4,
                    bytes => bytes,
                },
                sideband: config.flags & session_flag::SIDEBAND != 0,
                retell: config.flags & session_flag::RETELL != 0,
            },
            clock: config.clock,
            log: config.flags & session_flag::LOG != 0,
            stack: Wanted::of(config),
        };
        let rings = Rings::new(shape, filter)?;
        let rings = Arc::new(rings, GFP_KERNEL)?;
        // SAFETY: `wake` lives as long as the session, which leaves the registry when it is dropped.
        let slot = unsafe { registry::join(config, user, &rings, &self.wake, processes, rules) }?;
        self.rings.populate(rings);
        Ok(slot)
    }

    /// Tells of the threads of the targets that are there now.
    pub(crate) fn tell_alive(&self) -> Result {
        let inner = self.inner.lock();
        let State::Running(slot) = inner.state else {
            return Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session is not running: it has no targets to tell of\n"
            ));
        };
        registry::emit_alive(slot);
        Ok(())
    }

    /// Stops recording.
    pub(crate) fn stop(&self) -> Result {
        let mut inner = self.inner.lock();
        if let State::Running(slot) = inner.state {
            registry::emit_alive(slot);
        }
        if inner.stop() {
            self.wake.now();
            Ok(())
        } else {
            Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session is not running: there is nothing to stop\n"
            ))
        }
    }

    /// What this session is and what the module can do.
    pub(crate) fn info(&self) -> uapi::Info {
        let inner = self.inner.lock();
        let (state, live_targets, (missed, deaf)) = match &inner.state {
            State::Idle(chosen) => (
                state::IDLE,
                chosen.processes.len() as u32,
                (0, Deaf::default()),
            ),
            State::Running(slot) => {
                let missed = registry::missed(*slot);
                (state::RUNNING, targets::live(*slot), missed)
            }
            State::Stopped { missed, deaf } => (state::STOPPED, 0, (*missed, *deaf)),
        };
        uapi::Info {
            abi_version: uapi::ABI_VERSION,
            fault_record_bytes: (SLOT_WORDS * 8) as u32,
            slot_bytes: uapi::SLOT_BYTES as u32,
            cpus: rings::cpu_ids() as u32,
            state,
            mode: inner.config.mode,
            flags: inner.config.flags,
            live_targets,
            ring_bytes: inner.config.ring_bytes,
            missed,
            ring_stride: rings::DATA_OFFSET as u64 + inner.config.ring_bytes,
            producer_offset: rings::PRODUCER_OFFSET as u32,
            consumer_offset: rings::CONSUMER_OFFSET as u32,
            data_offset: rings::DATA_OFFSET as u32,
            max_sessions: uapi::MAX_SESSIONS as u32,
            missed_returns: self.rings().map_or(0, Rings::missed_returns),
            deaf: deaf.times,
            heard_ns: deaf.heard_ns,
            page_bytes: PAGE_SIZE as u32,
            reserved: 0,
        }
    }

    /// The rings; `None` before the start. Takes no lock.
    pub(crate) fn rings(&self) -> Option<&Rings> {
        self.rings.as_ref().map(|rings| &**rings)
    }

    /// The slot in the registry, while running.
    pub(crate) fn running(&self) -> Option<usize> {
        match self.inner.lock().state {
            State::Running(slot) => Some(slot),
            _ => None,
        }
    }

    /// Whom to wake when there is something to read.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The buffer of a drain, and the right to be the only one.
    pub(crate) fn bounce(&self) -> Result<Guard<'_, VVec<u64>, MutexBackend>> {
        let mut bounce = self.bounce.lock();
        if bounce.is_empty() {
            *bounce = VVec::from_elem(0, BOUNCE_WORDS, GFP_KERNEL)?;
        }
        Ok(bounce)
    }
}

impl Inner {
    /// Stops recording; false if it was not running.
    fn stop(&mut self) -> bool {
        let State::Running(slot) = self.state else {
            return false;
        };
        let (missed, deaf) = registry::leave(slot);
        if deaf.times != 0 {
            pr_warn!("the probe did not hear during a recording: {}\n", DEAF);
        }
        self.state = State::Stopped { missed, deaf };
        true
    }
}

/// Refusals that are said in [`WINDOW_NS`]: who opens the device again and again does not fill the kernel's log.
const SAID_MOST: u32 = 100;
const WINDOW_NS: u64 = 10_000_000_000;

/// Counts a refusal that is to be said; false if there were too many already.
fn log_has_room() -> bool {
    /// The number of the window, and how many were said in it.
    static WINDOW: AtomicU64 = AtomicU64::new(0);
    static SAID: AtomicU32 = AtomicU32::new(0);
    let window = super::clock::now(clock::MONOTONIC) / WINDOW_NS;
    if WINDOW.swap(window, Ordering::Relaxed) != window {
        SAID.store(0, Ordering::Relaxed);
    }
    let said = SAID.fetch_add(1, Ordering::Relaxed);
    if said == SAID_MOST {
        pr_warn!("further refusals are not said for some seconds\n");
    }
    said < SAID_MOST
}

#[pinned_drop]
impl PinnedDrop for Session {
    fn drop(self: Pin<&mut Self>) {
        self.inner.lock().stop();
    }
}

/// Why the probe hears nothing.
const DEAF: &str = "kprobes are switched off (echo 1 >/sys/kernel/debug/kprobes/enabled) or ftrace is (sysctl kernel.ftrace_enabled=1)";

/// Why a process cannot wait for its exec.
const TOO_MANY_WAIT: &str = "64 processes wait for an exec already";

/// What an error of a start means.
fn why_not(error: Error) -> &'static str {
    if error == ENOMEM {
        "there is no memory for the rings: those of all sessions may have half of this machine's, and it must be available; make them smaller, or end other sessions"
    } else if error == EINTR {
        "the caller was killed"
    } else if error == EBUSY {
        "all sessions are taken"
    } else if error == EPERM {
        "the rings are more than the caller may lock in memory (RLIMIT_MEMLOCK) without CAP_IPC_LOCK; make them smaller"
    } else if error == registry::over_share() {
        "this user has half of all sessions already, which is the share of one; end others of yours"
    } else if error == ESRCH {
        "none of the processes is alive any more, or the user's own"
    } else if error == EIO {
        DEAF
    } else if error == EAGAIN {
        "it could not be found out whether the probe hears, since the caller's mappings were locked for too long; try again"
    } else if error == EFAULT {
        "it cannot be found out whether the probe hears, since the caller's stack cannot be read"
    } else if error == ENOSPC {
        TOO_MANY_WAIT
    } else if error == ENOENT {
        "this kernel lacks a function or tracepoint that is to be probed"
    } else if error == compat::unsupported() {
        "this kernel cannot hook the fault with ftrace, or sysctl kernel.ftrace_enabled is 0; the kprobe may do"
    } else {
        "the kernel refuses the probe"
    }
}

/// What is wrong with a configuration, if anything.
fn check_config(config: &uapi::Config) -> Result<(), &'static str> {
    if config.watermark_bytes > config.ring_bytes {
        return Err("the watermark cannot be above the ring's size");
    }
    if config.mode != mode::DISCARD && config.mode != mode::OVERWRITE {
        return Err("unknown mode");
    }
    if config.clock > clock::RAW {
        return Err("unknown clock");
    }
    let known = session_flag::FOLLOW
        | session_flag::SIDEBAND
        | session_flag::ALL
        | session_flag::LATENCY
        | session_flag::FTRACE
        | session_flag::STACK_FRAMES
        | session_flag::STACK_COPY
        | session_flag::RETELL;
    if config.flags & !known != 0 {
        return Err("unknown flag");
    }
    check_ring_bytes(config.ring_bytes)?;
    check_stack(config)
}

/// What is wrong with the stacks that are asked for, if anything.
fn check_stack(config: &uapi::Config) -> Result<(), &'static str> {
    let both = session_flag::STACK_FRAMES | session_flag::STACK_COPY;
    let asked = config.flags & both;
    if asked & session_flag::STACK_COPY != 0 && !arch::STACKS_CAN_BE_COPIED {
        return Err("stacks of this processor are recorded by frame pointers alone");
    }
    let fits = match asked {
        0 => config.stack == 0,
        session_flag::STACK_FRAMES => (1..=uapi::STACK_FRAMES_MAX).contains(&config.stack),
        _ => (8..=uapi::STACK_BYTES_MAX).contains(&config.stack) && config.stack % 8 == 0,
    };
    if !fits {
        return Err("the size of the stacks is out of its range");
    }
    let record = Wanted::of(config).map_or(0, |wanted| wanted.record_words() as u64 * 8);
    if record > config.ring_bytes / 4 {
        return Err("the ring is too small: it must hold four stacks");
    }
    Ok(())
}

/// What is wrong with a size of rings, if anything.
pub(crate) fn check_ring_bytes(bytes: u64) -> Result<(), &'static str> {
    if !bytes.is_power_of_two() {
        return Err("the ring's size must be a power of two");
    }
    // A ring is mapped by the page.
    let least = uapi::RING_BYTES_MIN.max(PAGE_SIZE as u64);
    if !(least..=uapi::RING_BYTES_MAX).contains(&bytes) {
        return Err("the ring's size must lie between one page and 1 GiB per CPU");
    }
    Ok(())
}
