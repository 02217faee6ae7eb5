// SPDX-License-Identifier: GPL-2.0-only

//! What can go wrong with a session, in words that say what to do next.

use std::io;

use fault_tracer_uapi as uapi;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the module could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no device.
    #[error("there is no {path}: the module is not loaded")]
    NotLoaded {
        /// The device's path.
        path: String,
    },
    /// The module is there, but the caller may not use it.
    #[error(
        "{path} may not be opened: tracing needs root, or access to that file and CAP_PERFMON; one's own processes need \
         kernel.perf_event_paranoid=1 instead"
    )]
    NotPermitted {
        /// The device's path.
        path: String,
    },
    /// The kernel is locked down.
    #[error(
        "{path} may not be opened: the kernel is locked down for confidentiality, so that nobody may trace (see kernel_lockdown(7))"
    )]
    LockedDown {
        /// The device's path.
        path: String,
    },
    /// Processes of others are to be traced by a user who may not.
    #[error(
        "this user may trace processes of their own alone: those of others, or that have other rights, need root or CAP_PERFMON"
    )]
    NotOwn,
    /// All processes are to be traced from within a container.
    #[error(
        "all processes can be traced from the initial pid namespace alone: in a container, name them with --pid"
    )]
    NotInitialNamespace,
    /// A rule is asked for from within a container.
    #[error(
        "processes can be chosen by what they are from the initial pid namespace alone: in a container, name them with --pid"
    )]
    RulesNotInitialNamespace,
    /// A mapping's name that is too long.
    #[error("the name of a mapping has at most 255 bytes: of a longer path, name the last part")]
    MappingName,
    /// More names of mappings than a session has.
    #[error("a recording names {} mappings at most", uapi::FILTER_MAPPINGS)]
    TooManyMappings,
    /// More rules than a session has.
    #[error("a recording has {} rules at most", uapi::RULES_MAX)]
    TooManyRules,
    /// The device cannot be opened for another reason.
    #[error("{path} cannot be opened")]
    Open {
        /// The device's path.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The device does not answer as any version of the module would.
    #[error(
        "{path} does not speak ABI version {tool}, which this program needs: \
         install the module and the tools from the same release"
    )]
    NotSpoken {
        /// The device's path.
        path: String,
        /// The ABI version of this program.
        tool: u32,
    },
    /// The module speaks another version of the ABI.
    #[error(
        "the module speaks ABI version {module}, this program version {tool}: \
         install the module and the tools from the same release"
    )]
    Version {
        /// The module's ABI version.
        module: u32,
        /// The ABI version of this program.
        tool: u32,
    },
    /// The module's records have another size than this program reads.
    #[error(
        "the module's fault records are {record} bytes in slots of {slot}, this program reads \
         {expected} in {expected}: install the module and the tools from the same release"
    )]
    RecordSize {
        /// Bytes of the module's fault records.
        record: u32,
        /// Bytes of the module's slots.
        slot: u32,
        /// What this program expects of both.
        expected: usize,
    },
    /// A process that does not exist, or has ended.
    #[error("there is no process {pid}, or it has ended")]
    NoProcess {
        /// The process id that was asked for.
        pid: i32,
    },
    /// All the processes named have ended before recording could start.
    #[error("the processes to trace have ended before the recording could start")]
    TargetsEnded,
    /// The kernel cannot hook the fault with ftrace.
    #[error(
        "this kernel cannot hook page faults with ftrace: if ftrace is switched off, sysctl \
         kernel.ftrace_enabled=1 switches it on; else take --hook kprobe"
    )]
    NoFtraceHook,
    /// No session was started by the module parameters.
    #[error(
        "no process was named when the module was loaded (pid=N): name one with --pid N, or a \
         command after --"
    )]
    NothingToAdopt,
    /// The session of the module parameters is in use by another program.
    #[error("the session of the module parameters is being drained by another program")]
    AlreadyAdopted,
    /// The rings do not fit in memory.
    #[error(
        "there is no memory for rings of {kib} KiB for each of {cpus} CPUs (those of all recordings \
         may take half of it, and it must be available): choose smaller ones, or end other recordings"
    )]
    NoMemory {
        /// KiB for each CPU.
        kib: u64,
        /// CPUs, as ids.
        cpus: u32,
    },
    /// The rings are more than the caller may lock in memory.
    #[error(
        "rings of {kib} KiB for each of {cpus} CPUs are more than this user may lock in memory (ulimit -l): choose smaller ones by \
         --ring-size, or give the program the right: sudo setcap cap_perfmon,cap_ipc_lock=ep PROGRAM"
    )]
    MemoryLimit {
        /// KiB for each CPU.
        kib: u64,
        /// CPUs, as ids.
        cpus: u32,
    },
    /// The user has as many sessions as one may have.
    #[error("this user has half of the {max} sessions already, which is the share of one: end others of yours")]
    ShareTaken {
        /// Sessions of the module.
        max: u32,
    },
    /// A session names no more processes than so many.
    #[error(
        "cannot trace process {pid}: too many processes are named already. Name the process that starts them (its \
         children are followed), or trace all"
    )]
    TooManyTargets {
        /// The one that was not added.
        pid: i32,
    },
    /// No further session can run.
    #[error(
        "all {max} sessions of the module are taken: end one of them (see fault-tracer status)"
    )]
    TooManySessions {
        /// [`uapi::Info::max_sessions`].
        max: u32,
    },
    /// The kernel's probes are switched off: nothing would be recorded.
    #[error(
        "the kernel's probe does not hear: kprobes are switched off (echo 1 \
         >/sys/kernel/debug/kprobes/enabled switches them on), or ftrace is (sysctl \
         kernel.ftrace_enabled=1)"
    )]
    Deaf,
    /// A size of rings that the module does not take.
    #[error(
        "rings of {bytes} bytes are refused: the size must be a power of two from {least} to {} bytes",
        uapi::RING_BYTES_MAX
    )]
    RingSize {
        /// The size that was asked for.
        bytes: u64,
        /// The smallest that there is.
        least: u64,
    },
    /// A call that failed for a reason that the kernel log tells.
    #[error("the module refused to {action} (the kernel log, dmesg, may say why)")]
    Refused {
        /// What was to be done.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A ring in shared memory that cannot be read.
    #[error("the ring of CPU {cpu} cannot be read, {what}: please report this")]
    Damaged {
        /// The CPU.
        cpu: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}
