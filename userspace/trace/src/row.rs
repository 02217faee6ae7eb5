// SPDX-License-Identifier: GPL-2.0-only

//! What a trace consists of.

use std::sync::Arc;

use crate::{Account, Fate, Fault, Kind, Nodes, PageSize};

/// A name that many rows share.
pub type Name = Arc<str>;

/// Where in a process's memory a fault was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What `/proc/PID/maps` calls the mapping; [`ANONYMOUS`] where it calls it nothing.
    pub name: Name,
    /// Its rights, as in `/proc/PID/maps`.
    pub permissions: Name,
    /// Offset of the address in the file, if it is a file.
    pub file_offset: Option<u64>,
}

/// The name of anonymous memory that has no other.
pub const ANONYMOUS: &str = "[anon]";

/// A file that code is mapped from, or the kernel's own `[vdso]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// What `/proc/PID/maps` calls the mapping.
    pub name: Name,
    /// The file's build id.
    pub build_id: BuildId,
    /// What is to be added (modulo 2^64) to an offset in the file to get the address that the file's own
    /// symbols use, if that could be read.
    pub bias: Option<u64>,
    /// Which file it is; `None` for the kernel's own.
    pub file: Option<FileId>,
}

/// What is known of a file's build id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum BuildId {
    /// It is this, in hexadecimal digits.
    Of(Name),
    /// The file was read and has none.
    Absent,
    /// The file could not be read while the code ran.
    #[default]
    Unread,
}

impl BuildId {
    /// It is this, or, if it is empty, there is none.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Absent;
        }
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Of(digits.into())
    }

    /// Its hexadecimal digits, if they are known.
    pub fn digits(&self) -> Option<&Name> {
        match self {
            Self::Of(digits) => Some(digits),
            Self::Absent | Self::Unread => None,
        }
    }
}

/// A file, as its file system knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// As the mapping has it: the superblock's major number in the high, the minor one in the low 32 bits.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// Time of its last change (`st_ctime`) in nanoseconds since 1970, as of when it was read; `None` if it could not
    /// be read.
    pub changed_ns: Option<i64>,
}

/// Which code an instruction pointer points to: with the last [`TextRow`] of the process and the object until
/// that time, it tells the instruction pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// In which object.
    pub object: Arc<Object>,
    /// At which offset in the file.
    pub offset: u64,
}

/// An object's code is mapped into a process, reported before the first fault with an instruction pointer there,
/// and again when it lies elsewhere or is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRow {
    /// Time of that fault.
    pub time_ns: u64,
    /// Its CPU.
    pub cpu: u32,
    /// The process.
    pub pid: u32,
    /// The thread of that fault.
    pub tid: u32,
    /// First address of the mapping.
    pub address: u64,
    /// Its offset in the file.
    pub file_offset: u64,
    /// The object.
    pub object: Arc<Object>,
}

impl TextRow {
    /// What is to be subtracted from an instruction pointer in the mapping to get the offset in the file.
    pub fn base(&self) -> u64 {
        self.address.wrapping_sub(self.file_offset)
    }

    /// The first address as the file's own symbols count, if it is known.
    pub fn elf_address(&self) -> Option<u64> {
        Some(self.file_offset.wrapping_add(self.object.bias?))
    }
}

/// A fault and all that is known of it.
///
/// The kernel may have to enter `handle_mm_fault` several times for one fault (`VM_FAULT_RETRY`: a lock had to be
/// dropped, or a page be waited for). These attempts are one row, unless the recording was asked to keep them
/// apart: then each is a row, and all but the last have [`Fate::Retried`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFault {
    /// The record of its first attempt.
    pub fault: Fault,
    /// Name of the process (of its first thread), if it is known.
    pub process: Option<Name>,
    /// Name of the thread, if it is known.
    pub thread: Option<Name>,
    /// Path of the program that the process executes, if it is known.
    pub program: Option<Name>,
    /// Its mapping, if it is known.
    pub place: Option<Place>,
    /// The code of its instruction pointer, if it is known.
    pub code: Option<Code>,
    /// What it asked the kernel to do, as its first attempt found it.
    pub kind: Kind,
    /// What became of it in the end.
    pub fate: Fate,
    /// How often `handle_mm_fault` was entered for it: 1 or more.
    pub attempts: u32,
    /// Of these entries, those whose return was recorded. Always 0 in recordings without durations.
    pub returns: u32,
    /// From its first entry to its last return, in nanoseconds. `None` where it was not asked for, was missed, or the
    /// recording ended before.
    pub duration_ns: Option<u64>,
    /// Who called the code that faulted: the [`FrameRow::id`] of its caller, [`OUTERMOST`] or [`UNKNOWN_CALLER`]. `None` in
    /// recordings without stacks, and where there was no room for the stack.
    pub stack: Option<u32>,
    /// Size in bytes of the page that the fault mapped: what one entry of the page tables translates, or the whole folio
    /// of anonymous memory that is filled at once. `None` where it is not known: in recordings without durations, and of
    /// faults that failed or gave up their lock.
    pub page_bytes: Option<u64>,
    /// The NUMA node of that page's memory, where it is known: in recordings with durations.
    pub page_node: Option<u32>,
    /// How many pages its last attempt mapped beside that one (fault-around): of reads of a file's pages, in recordings with
    /// durations, where it is known.
    pub around: Option<u32>,
}

impl Default for ResolvedFault {
    /// A fault of one attempt, of which nothing is known.
    fn default() -> Self {
        Self {
            fault: Fault::default(),
            process: None,
            thread: None,
            program: None,
            place: None,
            code: None,
            kind: Kind::default(),
            fate: Fate::default(),
            attempts: 1,
            returns: 0,
            duration_ns: None,
            page_bytes: None,
            page_node: None,
            around: None,
            stack: None,
        }
    }
}

/// In the place of a caller's [`FrameRow::id`]: there is none, the thread begins here.
pub const OUTERMOST: u32 = 0;
/// In the place of a caller's [`FrameRow::id`]: there is one that is not known, as the stack could not be followed on.
pub const UNKNOWN_CALLER: u32 = 1;
/// The [`FrameRow::id`] of the first frame.
pub const FIRST_FRAME: u32 = 2;

/// A place that calls, and who has called the function that it is in: each such pair is reported once, before the first
/// fault that refers to it. Faults of all threads and processes with the same callers share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// Time of that fault.
    pub time_ns: u64,
    /// Its CPU.
    pub cpu: u32,
    /// Its process.
    pub pid: u32,
    /// Its thread.
    pub tid: u32,
    /// By what faults and other frames refer to it: from [`FIRST_FRAME`] on.
    pub id: u32,
    /// The frame of its caller, which was reported before; [`OUTERMOST`] or [`UNKNOWN_CALLER`].
    pub caller: u32,
    /// The address to which the called function returns, in that process: the call ends one byte before. Of code that a
    /// signal interrupted, one byte behind the beginning of the instruction.
    pub address: u64,
    /// The code that it is in, if it is known. What is not in a file, such as JIT code, belongs to that process alone.
    pub code: Option<Code>,
}

impl FrameRow {
    /// The address in the file, else in the process: what the column `ip_offset` has.
    pub fn ip_offset(&self) -> u64 {
        self.code.as_ref().map_or(self.address, |code| code.offset)
    }
}

/// Why there is a [`ThreadRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadEvent {
    /// It was there when its process became a target.
    Present,
    /// It was made.
    Fork,
    /// It executed a program.
    Exec,
    /// It got a new name.
    Rename,
    /// It ended.
    Exit,
    /// It was there when the recording was stopped.
    Alive,
    /// It goes on, and is traced no more: the rules by which the recording chooses do not hold for it.
    Left,
}

/// A thread's beginning, end or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadRow {
    /// What happened.
    pub event: ThreadEvent,
    /// When.
    pub time_ns: u64,
    /// The CPU that emitted it.
    pub cpu: u32,
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Name of the process, if it is known.
    pub process: Option<Name>,
    /// Name of the thread, if it is known.
    pub thread: Option<Name>,
    /// Path of its program, where the event tells it.
    pub program: Option<Name>,
    /// Process id of the parent; not of an exit.
    pub parent: Option<u32>,
    /// The thread's id before, of an exec.
    pub old_tid: Option<u32>,
    /// Its minor-fault counter.
    pub min_flt: u64,
    /// Its major-fault counter.
    pub maj_flt: u64,
}

/// Faults of one thread that happened between two of its records and are not in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRow {
    /// The record before.
    pub time_ns: u64,
    /// The record behind.
    pub end_ns: u64,
    /// The CPU of the record behind.
    pub cpu: u32,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// How many: at least, as the records carry the low bits of the counters alone; exactly for one that
    /// ends with the thread's exit.
    pub count: u64,
}

/// Faults of one CPU that are not in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRow {
    /// How.
    pub how: Loss,
    /// The CPU.
    pub cpu: u32,
    /// The first, or the record before.
    pub time_ns: u64,
    /// The last, or the record behind.
    pub end_ns: u64,
    /// How many; of those overwritten at most.
    pub count: u64,
}

/// How faults are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// They found the ring full.
    Dropped,
    /// They were overwritten before they were read, and other records with them.
    Overwritten,
}

/// A number in the final account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// See [`crate::Account::hits`].
    Hits,
    /// See [`crate::Account::recorded`].
    Recorded,
    /// See [`crate::Account::dropped`].
    Dropped,
    /// See [`crate::Account::overwritten`].
    Overwritten,
    /// See [`crate::Account::missed`].
    Missed,
    /// See [`crate::Account::sideband_dropped`].
    SidebandDropped,
    /// See [`crate::Account::deaf`].
    Deaf,
    /// See [`crate::Account::passed_over`].
    PassedOver,
    /// Faults whose return the module could not record. In recordings with durations alone.
    MissedReturns,
    /// Attempts of all faults in the trace. The last row: without it, the recording was cut off.
    End,
}

/// A line of the final account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Which number.
    pub counter: Counter,
    /// When it was read.
    pub time_ns: u64,
    /// Of which CPU; `None` for all.
    pub cpu: Option<u32>,
    /// The number.
    pub count: u64,
}

impl CounterRow {
    /// Adds the number to the sums over the CPUs; false for a line that is none of them.
    pub fn add_to(&self, account: &mut Account) -> bool {
        let sum = match self.counter {
            Counter::Hits => &mut account.hits,
            Counter::Recorded => &mut account.recorded,
            Counter::Dropped => &mut account.dropped,
            Counter::Overwritten => &mut account.overwritten,
            Counter::Missed => &mut account.missed,
            Counter::SidebandDropped => &mut account.sideband_dropped,
            Counter::Deaf => &mut account.deaf,
            Counter::PassedOver => &mut account.passed_over,
            Counter::MissedReturns | Counter::End => return false,
        };
        *sum = sum.saturating_add(self.count);
        true
    }
}

/// One row of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A fault whose fate is known, or cannot become known any more.
    Fault(Box<ResolvedFault>),
    /// A fault that waits for its fate. A row [`Row::Fault`] of the same thread and time follows, unless
    /// the recording was cut off.
    Pending(Box<ResolvedFault>),
    /// A thread.
    Thread(Box<ThreadRow>),
    /// Code that instruction pointers of later rows refer to.
    Text(Box<TextRow>),
    /// A caller that stacks of later rows refer to.
    Frame(Box<FrameRow>),
    /// Faults of a thread that are not there.
    Gap(GapRow),
    /// Faults of a CPU that were dropped.
    Lost(LostRow),
    /// The account.
    Counter(CounterRow),
}

impl Row {
    /// Its time.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Fault(row) | Self::Pending(row) => row.fault.time_ns,
            Self::Thread(row) => row.time_ns,
            Self::Text(row) => row.time_ns,
            Self::Frame(row) => row.time_ns,
            Self::Gap(row) => row.time_ns,
            Self::Lost(row) => row.time_ns,
            Self::Counter(row) => row.time_ns,
        }
    }

    /// Of code and callers: the object, and the column `ip_offset`.
    pub(crate) fn object_and_offset(&self) -> (Option<&Arc<Object>>, Option<u64>) {
        match self {
            Self::Text(row) => (Some(&row.object), row.elf_address()),
            Self::Frame(row) => (
                row.code.as_ref().map(|code| &code.object),
                Some(row.ip_offset()),
            ),
            _ => (None, None),
        }
    }

    /// Its name in the column `event`.
    pub fn event(&self) -> &'static str {
        EVENTS[self.event_index()]
    }

    /// Index in [`EVENTS`].
    pub(crate) fn event_index(&self) -> usize {
        macro_rules! index {
            ($name:literal) => {
                const { index_of($name) }
            };
        }
        match self {
            Self::Fault(_) => index!("fault"),
            Self::Pending(_) => index!("pending"),
            Self::Thread(row) => match row.event {
                ThreadEvent::Present => index!("present"),
                ThreadEvent::Fork => index!("fork"),
                ThreadEvent::Exec => index!("exec"),
                ThreadEvent::Rename => index!("rename"),
                ThreadEvent::Exit => index!("exit"),
                ThreadEvent::Alive => index!("alive"),
                ThreadEvent::Left => index!("left"),
            },
            Self::Text(_) => index!("text"),
            Self::Frame(_) => index!("frame"),
            Self::Gap(_) => index!("gap"),
            Self::Lost(row) => match row.how {
                Loss::Dropped => index!("lost"),
                Loss::Overwritten => index!("overrun"),
            },
            Self::Counter(row) => match row.counter {
                Counter::Hits => index!("hits"),
                Counter::Recorded => index!("recorded"),
                Counter::Dropped => index!("dropped"),
                Counter::Overwritten => index!("overwritten"),
                Counter::Missed => index!("missed"),
                Counter::SidebandDropped => index!("sideband_dropped"),
                Counter::Deaf => index!("deaf"),
                Counter::PassedOver => index!("passed_over"),
                Counter::MissedReturns => index!("missed_returns"),
                Counter::End => index!("end"),
            },
        }
    }
}

/// Index of a name in [`EVENTS`]; a name that is not there does not compile.
const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while !equal(EVENTS[index].as_bytes(), name.as_bytes()) {
        index += 1;
    }
    index
}

/// `==`, which is not for constants yet.
const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The names in the column `event`.
pub const EVENTS: [&str; 24] = [
    "fault",
    "pending",
    "present",
    "fork",
    "exec",
    "rename",
    "exit",
    "gap",
    "lost",
    "hits",
    "recorded",
    "dropped",
    "overwritten",
    "missed",
    "sideband_dropped",
    "missed_returns",
    "end",
    "overrun",
    "alive",
    "text",
    "deaf",
    "frame",
    "left",
    "passed_over",
];

/// What a trace says of itself before its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Version of the program that recorded it.
    pub version: String,
    /// Name of the machine.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// What was traced.
    pub command: String,
    /// The clock of `time_ns`.
    pub clock: String,
    /// What is to be added to `time_ns` to get nanoseconds since 1970, as of the beginning.
    pub wall_offset_ns: i64,
    /// The offset is known to so many nanoseconds, either way.
    pub wall_error_ns: u64,
    /// Whether the faults have durations.
    pub latency: bool,
    /// Whether each attempt of a fault has a row of its own.
    pub attempts_apart: bool,
    /// Which faults were recorded, in words; empty if all were.
    pub selection: String,
    /// The NUMA nodes of the machine's CPUs; empty where they are not known.
    pub nodes: Nodes,
    /// How large the machine's pages are; 4 KiB where the trace does not tell.
    pub page_size: PageSize,
    /// What was recorded and lost; `None` until the end of the recording.
    pub account: Option<Account>,
}
