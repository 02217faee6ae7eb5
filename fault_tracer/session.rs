// SPDX-License-Identifier: GPL-2.0-only

//! Sessions: the control path.
//!
//! A session is set up while idle, records while running, and can still be drained when stopped. The
//! registry knows the running ones; the probe is armed while there is any.
//!
//! Lock order: a session's `inner`, then [`REGISTRY`]. The fault path takes neither.

use core::{
    ffi::c_int,
    sync::atomic::{AtomicU32, Ordering},
};
use kernel::{
    bindings, new_mutex,
    prelude::*,
    sync::{rcu, Arc, Mutex},
    uaccess::{UserPtr, UserSlice},
};

use super::{
    probe::Kprobe,
    recorder,
    ring::SLOT_WORDS,
    rings::{self, Rings},
    targets::{self, Table},
    uapi::{self, mode, session_flag, state},
};

/// Ring of a session that was not configured, in bytes per CPU.
const RING_BYTES_DEFAULT: u64 = 1 << 20;

/// Words of the buffer through which a drain copies: 64 KiB.
const BOUNCE_WORDS: usize = 8192;

kernel::sync::global_lock! {
    // SAFETY: `init` is called by the module's initializer before anything else.
    unsafe(uninit) static REGISTRY: Mutex<Registry> = Registry::new();
}

/// Prepares what sessions share.
///
/// # Safety
///
/// To be called once, before any session is made.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's contract.
    unsafe { REGISTRY.init() };
}

/// What the module records at present.
struct Registry {
    running: [Option<Entry>; uapi::MAX_SESSIONS],
    armed: Option<Armed>,
    /// The session of the module parameters, and whether a file stands for it.
    boot: Option<Arc<Session>>,
    adopted: bool,
}

/// The probes. Fields are dropped in this order: no fault looks for targets in a table that is gone.
struct Armed {
    fault: Kprobe,
    _targets: Table,
}

/// A running session, as the overview shows it.
struct Entry {
    rings: Arc<Rings>,
    config: uapi::Config,
    owner: Owner,
    named: u32,
    first: i32,
    started_ns: i64,
    /// The probe's count when the session started.
    missed_before: u64,
}

/// The process that started a session.
#[derive(Clone, Copy)]
struct Owner {
    pid: i32,
    comm: [u8; 16],
}

impl Owner {
    fn current() -> Self {
        let task = super::cpu::current_task();
        let mut comm = [0; 16];
        // SAFETY: The running thread's task; its name may change meanwhile but stays 16 bytes.
        let pid = unsafe {
            for (to, from) in comm.iter_mut().zip((*task).comm) {
                *to = from;
            }
            (*task).tgid
        };
        Self { pid, comm }
    }
}

impl Registry {
    const fn new() -> Self {
        Self {
            running: [const { None }; uapi::MAX_SESSIONS],
            armed: None,
            boot: None,
            adopted: false,
        }
    }

    /// Arms the probes if they are not, and tells how many faults they have missed.
    fn arm(&mut self) -> Result<u64> {
        if self.armed.is_none() {
            let table = Table::new()?;
            let fault = Kprobe::at_entry(c"handle_mm_fault", recorder::on_fault)?;
            self.armed = Some(Armed {
                fault,
                _targets: table,
            });
        }
        Ok(self.missed())
    }

    fn missed(&self) -> u64 {
        self.armed.as_ref().map_or(0, |armed| armed.fault.missed())
    }

    /// Disarms the probes when nobody needs them.
    fn disarm_if_idle(&mut self) {
        if self.running.iter().all(Option::is_none) {
            self.armed = None;
        }
    }

    /// Faults missed while the session has been running.
    fn missed_by(&self, slot: usize) -> u64 {
        match &self.running[slot] {
            Some(entry) => self.missed().wrapping_sub(entry.missed_before),
            None => 0,
        }
    }
}

/// A reference to a process that stays meaningful when the process has ended and its id is reused.
///
/// # Invariants
///
/// Owns a reference to a `struct pid`.
struct Process(*mut bindings::pid);

// SAFETY: `struct pid` is reference-counted and shared by all threads.
unsafe impl Send for Process {}

impl Process {
    /// Finds the process of a process or thread id in the caller's pid namespace.
    fn find(id: i32) -> Result<Self> {
        let _guard = rcu::read_lock();
        // SAFETY: Under RCU the pid and the task found stay valid; `get_task_pid` takes a reference of
        // the pid.
        let pid = unsafe {
            let pid = bindings::find_vpid(id);
            let task = bindings::pid_task(pid, bindings::pid_type_PIDTYPE_PID);
            if task.is_null() {
                return Err(ESRCH);
            }
            bindings::get_task_pid(task, bindings::pid_type_PIDTYPE_TGID)
        };
        if pid.is_null() {
            return Err(ESRCH);
        }
        // INVARIANT: `get_task_pid` gave us a reference.
        Ok(Self(pid))
    }

    /// Its process id in the initial namespace; `None` when it has ended.
    fn live_id(&self) -> Option<i32> {
        let _guard = rcu::read_lock();
        // SAFETY: The pid is ours, and under RCU the task stays valid. `exit_state` and `nr_threads` may
        // change at any time; see `targets.rs` on the order in which they do.
        unsafe {
            let task = bindings::pid_task(self.0, bindings::pid_type_PIDTYPE_TGID);
            if task.is_null() {
                return None;
            }
            let ended = (&raw const (*task).exit_state).read_volatile() != 0;
            let signal = (&raw const (*task).signal).read_volatile();
            if ended && (signal.is_null() || (&raw const (*signal).nr_threads).read_volatile() <= 1)
            {
                return None;
            }
            Some((*task).tgid)
        }
    }

    /// Makes it a target of a running session.
    fn target(&self, slot: usize) -> Result<i32> {
        let id = self.live_id().ok_or(ESRCH)?;
        targets::add(slot, id);
        // It may have ended before it was in the table, so that the hook did not find it there.
        if self.live_id().is_none() {
            targets::remove(slot, id);
            return Err(ESRCH);
        }
        Ok(id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::put_pid(self.0) };
    }
}

/// Why a call was refused: each reason is logged once for each session.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// A value out of its range.
    Config,
    /// A call that the state does not allow.
    State,
    /// No such process.
    Process,
    /// No memory, no free session, or a probe that cannot be placed.
    Start,
    /// A bad buffer.
    Buffer,
    /// An unknown ioctl.
    Ioctl,
}

/// One session.
#[pin_data(PinnedDrop)]
pub(crate) struct Session {
    #[pin]
    inner: Mutex<Inner>,
    refused: AtomicU32,
}

/// What a session's lock protects.
struct Inner {
    config: uapi::Config,
    /// The processes named: all before the start, none of which is needed after.
    processes: KVec<Process>,
    state: State,
}

enum State {
    Idle,
    Running(Recording),
    Stopped(Recording),
}

/// What a session has once it was started.
struct Recording {
    slot: usize,
    rings: Arc<Rings>,
    bounce: VVec<u64>,
    /// Final once stopped.
    missed: u64,
}

impl State {
    fn recording(&mut self) -> Option<&mut Recording> {
        match self {
            State::Idle => None,
            State::Running(recording) | State::Stopped(recording) => Some(recording),
        }
    }

    fn code(&self) -> u32 {
        match self {
            State::Idle => state::IDLE,
            State::Running(_) => state::RUNNING,
            State::Stopped(_) => state::STOPPED,
        }
    }
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
    /// Makes an idle session.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                inner <- new_mutex!(Inner {
                    config: uapi::Config {
                        ring_bytes: RING_BYTES_DEFAULT,
                        mode: mode::DISCARD,
                        flags: session_flag::FOLLOW,
                        reserved: [0; 2],
                    },
                    processes: KVec::new(),
                    state: State::Idle,
                }),
                refused: AtomicU32::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether this is the first time that something is refused for this reason.
    pub(crate) fn first(&self, reason: Refusal) -> bool {
        let bit = 1 << reason as u32;
        self.refused.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Sets up an idle session. `LOG` and `BOOT` are for the module itself.
    pub(crate) fn configure(&self, config: &uapi::Config) -> Result {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Idle) {
            return Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "a session can only be configured before it is started\n"
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

    /// Adds a target: from now on if running, from the start on if idle.
    pub(crate) fn add_target(&self, id: i32) -> Result {
        let mut inner = self.inner.lock();
        let process = self.find(id)?;
        match &inner.state {
            State::Idle => Ok(inner.processes.push(process, GFP_KERNEL)?),
            State::Running(recording) => {
                let mut registry = REGISTRY.lock();
                let target = process.target(recording.slot).map_err(|error| {
                    refuse!(
                        self,
                        Refusal::Process,
                        error,
                        "process {} has ended: nothing to trace\n",
                        id
                    )
                })?;
                if let Some(entry) = &mut registry.running[recording.slot] {
                    entry.named = entry.named.saturating_add(1);
                    if entry.named == 1 {
                        entry.first = target;
                    }
                }
                Ok(())
            }
            State::Stopped(_) => Err(self.is_stopped()),
        }
    }

    /// Removes a target.
    pub(crate) fn remove_target(&self, id: i32) -> Result {
        let mut inner = self.inner.lock();
        let process = self.find(id)?;
        let Inner {
            processes, state, ..
        } = &mut *inner;
        let removed = match state {
            State::Idle => {
                let before = processes.len();
                processes.retain(|other| other.0 != process.0);
                processes.len() < before
            }
            State::Running(recording) => {
                let _registry = REGISTRY.lock();
                process
                    .live_id()
                    .is_some_and(|pid| targets::remove(recording.slot, pid))
            }
            State::Stopped(_) => return Err(self.is_stopped()),
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
        if !matches!(inner.state, State::Idle) {
            return Err(refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session was already started\n"
            ));
        }
        let config = inner.config;
        let recording = self.begin(&config, &inner.processes).map_err(|error| {
            refuse!(
                self,
                Refusal::Start,
                error,
                "cannot record: {} ({} KiB of ring per CPU, {} processes named)\n",
                why_not(error),
                config.ring_bytes / 1024,
                inner.processes.len()
            )
        })?;
        inner.processes.clear();
        inner.state = State::Running(recording);
        Ok(())
    }

    /// Does the work of `start`. On error nothing is left behind.
    fn begin(&self, config: &uapi::Config, processes: &[Process]) -> Result<Recording> {
        let rings = Arc::new(
            Rings::new(
                config.ring_bytes as usize,
                config.mode == mode::OVERWRITE,
                config.flags & session_flag::LOG != 0,
            )?,
            GFP_KERNEL,
        )?;
        let bounce = VVec::from_elem(0, BOUNCE_WORDS, GFP_KERNEL)?;

        let mut registry = REGISTRY.lock();
        let slot = registry
            .running
            .iter()
            .position(Option::is_none)
            .ok_or(EBUSY)?;
        let missed_before = registry.arm()?;
        targets::begin(slot, config.flags & session_flag::FOLLOW != 0);
        // SAFETY: `rings` lives until the session is dropped, which stops it first: `end` withdraws the
        // rings and waits.
        unsafe { recorder::publish(slot, &*rings) };
        registry.running[slot] = Some(Entry {
            rings: rings.clone(),
            config: *config,
            owner: Owner::current(),
            named: processes.len() as u32,
            first: 0,
            started_ns: now(),
            missed_before,
        });
        let mut first = None;
        for process in processes {
            if let Ok(id) = process.target(slot) {
                first = first.or(Some(id));
            }
        }
        if first.is_none() && !processes.is_empty() {
            end(&mut registry, slot);
            return Err(ESRCH);
        }
        if let Some(entry) = &mut registry.running[slot] {
            entry.first = first.unwrap_or(0);
        }
        Ok(Recording {
            slot,
            rings,
            bounce,
            missed: 0,
        })
    }

    /// Stops recording.
    pub(crate) fn stop(&self) -> Result {
        let mut inner = self.inner.lock();
        if inner.stop() {
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

    /// Copies the oldest records of a CPU to user memory and takes them out of the ring. Returns the
    /// bytes copied.
    pub(crate) fn drain(&self, request: &uapi::Drain) -> Result<u32> {
        if request.length < uapi::SLOT_BYTES as u32 || request.buffer % 8 != 0 {
            return Err(refuse!(
                self,
                Refusal::Buffer,
                EINVAL,
                "a drain needs a buffer of at least {} bytes, aligned to 8 (got {} at {:#x})\n",
                uapi::SLOT_BYTES,
                request.length,
                request.buffer
            ));
        }
        let mut inner = self.inner.lock();
        let recording = self.recording(&mut inner)?;
        let cpu = request.cpu as usize;
        let cpu_ring = recording.rings.cpu(cpu).ok_or_else(|| self.no_cpu(cpu))?;
        let ring = cpu_ring.ring();
        let mut writer = UserSlice::new(
            UserPtr::from_addr(request.buffer as usize),
            request.length as usize,
        )
        .writer();
        let mut bytes = 0;
        while writer.len() >= uapi::SLOT_BYTES {
            let room = recording.bounce.len().min(writer.len() / 8);
            let batch = ring.copy_out(ring.position(), &mut recording.bounce[..room]);
            if batch.words == 0 {
                break;
            }
            let copy = &recording.bounce[..batch.words];
            // SAFETY: Any initialised word is eight initialised bytes.
            let copy = unsafe { core::slice::from_raw_parts(copy.as_ptr().cast(), copy.len() * 8) };
            if let Err(error) = writer.write_slice(copy) {
                // What was copied before stays delivered; what failed stays in the ring.
                if bytes == 0 {
                    return Err(refuse!(
                        self,
                        Refusal::Buffer,
                        error,
                        "a drain's buffer cannot be written: {} bytes at {:#x}\n",
                        request.length,
                        request.buffer
                    ));
                }
                break;
            }
            cpu_ring.deliver(batch.end(), batch.faults);
            bytes += copy.len();
        }
        Ok(bytes as u32)
    }

    fn recording<'a>(&self, inner: &'a mut Inner) -> Result<&'a mut Recording> {
        inner.state.recording().ok_or_else(|| {
            refuse!(
                self,
                Refusal::State,
                EINVAL,
                "the session was not started: there are no rings\n"
            )
        })
    }

    fn no_cpu(&self, cpu: usize) -> Error {
        refuse!(self, Refusal::Buffer, EINVAL, "there is no CPU {}\n", cpu)
    }

    /// The account of one CPU.
    pub(crate) fn counters(&self, cpu: u32) -> Result<uapi::CpuCounters> {
        let mut inner = self.inner.lock();
        let recording = self.recording(&mut inner)?;
        let cpu = cpu as usize;
        recording.rings.account(cpu).ok_or_else(|| self.no_cpu(cpu))
    }

    /// What this session is and what the module can do.
    pub(crate) fn info(&self) -> uapi::Info {
        let inner = self.inner.lock();
        let registry = REGISTRY.lock();
        let (live_targets, missed) = match &inner.state {
            State::Idle => (inner.processes.len() as u32, 0),
            State::Running(recording) => (
                targets::live(recording.slot),
                registry.missed_by(recording.slot),
            ),
            State::Stopped(recording) => (0, recording.missed),
        };
        uapi::Info {
            abi_version: uapi::ABI_VERSION,
            fault_record_bytes: (SLOT_WORDS * 8) as u32,
            slot_bytes: uapi::SLOT_BYTES as u32,
            cpus: rings::cpu_ids() as u32,
            state: inner.state.code(),
            mode: inner.config.mode,
            flags: inner.config.flags,
            live_targets,
            ring_bytes: inner.config.ring_bytes,
            missed,
            ring_stride: 2 * rings::POSITIONS_BYTES as u64 + inner.config.ring_bytes,
            producer_offset: 0,
            consumer_offset: rings::POSITIONS_BYTES as u32,
            data_offset: 2 * rings::POSITIONS_BYTES as u32,
            max_sessions: uapi::MAX_SESSIONS as u32,
            reserved: [0; 4],
        }
    }

    /// Whether nothing has been done with it.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.inner.lock().state, State::Idle)
    }
}

impl Inner {
    /// Stops recording; false if it was not running.
    fn stop(&mut self) -> bool {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Running(mut recording) => {
                let mut registry = REGISTRY.lock();
                recording.missed = registry.missed_by(recording.slot);
                end(&mut registry, recording.slot);
                drop(registry);
                self.state = State::Stopped(recording);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Session {
    fn drop(self: Pin<&mut Self>) {
        self.inner.lock().stop();
    }
}

/// Takes a session's slot back. When this returns, the fault path no longer knows of it.
fn end(registry: &mut Registry, slot: usize) {
    recorder::withdraw(slot);
    targets::end(slot);
    registry.running[slot] = None;
    registry.disarm_if_idle();
    if registry.armed.is_some() {
        // SAFETY: The call may sleep, and so may all callers.
        unsafe { bindings::synchronize_rcu() };
        targets::forget(slot);
    }
}

/// What an error of a start means.
fn why_not(error: Error) -> &'static str {
    if error == ENOMEM {
        "the rings do not fit in half of this machine's memory; make them smaller"
    } else if error == EBUSY {
        "all sessions are taken"
    } else if error == ESRCH {
        "none of the processes is alive any more"
    } else if error == ENOENT {
        "this kernel lacks a function or tracepoint that is to be probed"
    } else {
        "the kernel refuses the probe"
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now() -> i64 {
    <kernel::time::Monotonic as kernel::time::ClockSource>::ktime_get()
}

/// What is wrong with a configuration, if anything.
fn check_config(config: &uapi::Config) -> Result<(), &'static str> {
    if config.reserved != [0; 2] {
        return Err("reserved fields must be zero");
    }
    if config.mode != mode::DISCARD && config.mode != mode::OVERWRITE {
        return Err("unknown mode");
    }
    if config.flags & !session_flag::FOLLOW != 0 {
        return Err("unknown flag");
    }
    check_ring_bytes(config.ring_bytes)
}

/// What is wrong with a size of rings, if anything.
pub(crate) fn check_ring_bytes(bytes: u64) -> Result<(), &'static str> {
    if !bytes.is_power_of_two() {
        return Err("the ring's size must be a power of two");
    }
    if !(uapi::RING_BYTES_MIN..=uapi::RING_BYTES_MAX).contains(&bytes) {
        return Err("the ring's size must lie between 4 KiB and 1 GiB per CPU");
    }
    Ok(())
}

/// What the running session of an index is doing, for an overview.
pub(crate) fn overview(index: usize) -> uapi::SessionInfo {
    let registry = REGISTRY.lock();
    let mut info = uapi::SessionInfo {
        index: index as u32,
        ..Default::default()
    };
    if let Some(Some(entry)) = registry.running.get(index) {
        info.present = 1;
        info.mode = entry.config.mode;
        info.flags = entry.config.flags;
        info.owner_pid = entry.owner.pid;
        info.owner_comm = entry.owner.comm;
        info.live_targets = targets::live(index);
        info.named_targets = entry.named;
        info.first_target = entry.first;
        info.ring_bytes = entry.config.ring_bytes;
        info.missed = registry.missed_by(index);
        // CAST: the clock never goes back.
        info.running_ns = (now() - entry.started_ns) as u64;
        let total = entry.rings.total();
        info.hits = total.hits;
        info.recorded = total.recorded;
        info.dropped = total.dropped;
        info.overwritten = total.overwritten;
    }
    info
}

// ---------------------------------------------------------------------------------------------
// The session of the module parameters
// ---------------------------------------------------------------------------------------------

/// Starts the boot session: the process `id`, newest faults kept.
pub(crate) fn start_boot(id: c_int, ring_bytes: u64, follow: bool, log: bool) -> Result {
    let session = Session::new()?;
    {
        let mut inner = session.inner.lock();
        inner.config = uapi::Config {
            ring_bytes,
            mode: mode::OVERWRITE,
            flags: session_flag::BOOT
                | if follow { session_flag::FOLLOW } else { 0 }
                | if log { session_flag::LOG } else { 0 },
            reserved: [0; 2],
        };
    }
    session.add_target(id)?;
    session.start()?;
    REGISTRY.lock().boot = Some(session);
    Ok(())
}

/// The account of the boot session at its end.
pub(crate) struct BootTotals {
    /// Of all CPUs together.
    pub faults: uapi::CpuCounters,
    /// See [`uapi::Info::missed`].
    pub missed: u64,
    /// Faults printed to the kernel log; `None` if it was not asked to print.
    pub printed: Option<u64>,
}

/// Ends the boot session and gives its account; `None` if there is none.
pub(crate) fn end_boot() -> Option<BootTotals> {
    let session = REGISTRY.lock().boot.take()?;
    let mut inner = session.inner.lock();
    inner.stop();
    let recording = inner.state.recording()?;
    Some(BootTotals {
        faults: recording.rings.total(),
        missed: recording.missed,
        printed: recording.rings.log().then(|| recording.rings.printed()),
    })
}

/// Gives the boot session to a file.
///
/// # Errors
///
/// `ENOENT` if there is none, `EBUSY` if another file has it.
pub(crate) fn adopt() -> Result<Arc<Session>> {
    let mut registry = REGISTRY.lock();
    let session = registry.boot.as_ref().ok_or(ENOENT)?.clone();
    if registry.adopted {
        return Err(EBUSY);
    }
    registry.adopted = true;
    Ok(session)
}

/// Takes the boot session back from a file.
pub(crate) fn give_back() {
    REGISTRY.lock().adopted = false;
}
