// SPDX-License-Identifier: GPL-2.0-only

//! A session of the module: one method for each call of `uapi/PROTOCOL.md`.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use fault_tracer_uapi::{self as uapi, mode, session_flag, state, SLOT_BYTES};
use rustix::{
    event::{poll, PollFd, PollFlags, Timespec},
    fs::{Mode as FileMode, OFlags},
    io::Errno,
    ioctl::{ioctl, Getter, NoArg, Opcode, Setter, Updater},
};

use crate::{record::LONGEST_RECORD_WORDS, Clock, Error, Result, Time, WallOffset};

/// What happens to a fault that finds its ring full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The new fault is dropped and counted.
    Discard,
    /// The oldest are overwritten and counted.
    Overwrite,
}

impl Mode {
    /// The ABI's number of this mode.
    pub fn code(self) -> u32 {
        match self {
            Self::Discard => mode::DISCARD,
            Self::Overwrite => mode::OVERWRITE,
        }
    }

    /// The mode of an ABI's number; `None` if this crate does not know it.
    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            mode::DISCARD => Some(Self::Discard),
            mode::OVERWRITE => Some(Self::Overwrite),
            _ => None,
        }
    }

    /// Its name, as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Overwrite => "overwrite",
        }
    }
}

/// What sees the faults of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// A kprobe: on every kernel.
    #[default]
    Kprobe,
    /// An ftrace hook, which costs each fault less, where the kernel has it.
    Ftrace,
}

/// Which user stacks a session records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stacks {
    /// None.
    #[default]
    None,
    /// By frame pointers: at most so many return addresses, 1 to [`uapi::STACK_FRAMES_MAX`].
    Frames(u32),
    /// Copies of at most so many bytes, a multiple of 8 up to [`uapi::STACK_BYTES_MAX`].
    Copy(u32),
    /// The frames alone where frame pointers lead to the outermost one, otherwise copies of at most so many bytes.
    FramesOrCopy(u32),
}

impl Stacks {
    /// The flag and the size in a [`uapi::Config`].
    fn config(self) -> (u32, u32) {
        match self {
            Self::None => (0, 0),
            Self::Frames(most) => (session_flag::STACK_FRAMES, most),
            Self::Copy(bytes) => (session_flag::STACK_COPY, bytes),
            Self::FramesOrCopy(bytes) => {
                (session_flag::STACK_FRAMES | session_flag::STACK_COPY, bytes)
            }
        }
    }
}

/// By what a session chooses processes: see [`uapi::Rule`].
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// What is compared.
    pub kind: RuleKind<'a>,
    /// Whether those for which it holds are no targets.
    pub except: bool,
}

/// What a [`Rule`] compares.
#[derive(Clone, Copy, Debug)]
pub enum RuleKind<'a> {
    /// The process id.
    Process(i32),
    /// The effective user id.
    User(u32),
    /// The number of a cgroup2 folder, that of its inode: processes in it, and in those below.
    Cgroup(u64),
    /// The file that is executed, open for reading.
    Executable(BorrowedFd<'a>),
    /// What the process is called: at most 15 bytes, none of them zero.
    Name(&'a [u8]),
}

/// How a session shall record.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of each CPU's ring: a power of two from [`uapi::RING_BYTES_MIN`], or [`Session::page_bytes`] where that
    /// is more, to [`uapi::RING_BYTES_MAX`].
    pub ring_bytes: u64,
    /// What happens when a ring is full.
    pub mode: Mode,
    /// Whether children that a target forks become targets.
    pub follow: bool,
    /// Whether every process is a target but the one that starts the session, and kernel threads.
    pub all: bool,
    /// Whether mappings, tasks, exits and losses are recorded beside the faults.
    pub sideband: bool,
    /// Whether the faults' returns are recorded: [`crate::Record::Return`].
    pub latency: bool,
    /// Which user stacks are recorded: [`crate::Record::Stack`].
    pub stacks: Stacks,
    /// What sees the faults.
    pub hook: Hook,
    /// The clock of the records.
    pub clock: Clock,
    /// [`Session::wait`] returns when a ring holds that many bytes; 0 for a quarter of it.
    pub watermark_bytes: u64,
    /// Whether what is drained can be understood without what was drained before.
    pub retell: bool,
}

/// What [`Session::wait`] has waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A ring has come to the watermark.
    pub readable: bool,
    /// The targets have ended, or the session is stopped.
    pub ended: bool,
    /// The other file can be read.
    pub other: bool,
}

/// The shortest buffer, in words, that [`Session::drain_cpu`] makes progress with whatever the records.
pub const BUFFER_WORDS_MIN: usize = 2 * LONGEST_RECORD_WORDS;

/// What [`Session::drain_cpu`] has taken.
#[derive(Clone, Copy, Debug)]
pub struct Drained<'a> {
    /// Whole records, see [`crate::Records`].
    pub words: &'a [u64],
    /// Whether the ring was empty in the end: there was room left for any further record.
    pub emptied: bool,
    /// Slots of records that were overwritten between those taken before and these.
    pub gap_slots: u64,
}

/// An open file of the device, and the session that it stands for.
///
/// It is idle at first. When this value is dropped, the session ends and the module frees all it holds,
/// but for the adopted session of the module parameters, which goes on.
#[derive(Debug)]
pub struct Session {
    file: OwnedFd,
    cpus: u32,
    max_sessions: u32,
    page_bytes: u64,
}

/// Makes a call that has no argument.
macro_rules! call {
    ($self:ident, $opcode:expr) => {
        // SAFETY: The opcode is one of the module's, whose call takes no argument.
        unsafe { ioctl(&$self.file, NoArg::<{ $opcode as Opcode }>::new()) }
    };
}

/// Makes a call that reads a structure.
macro_rules! set {
    ($self:ident, $opcode:expr, $value:expr) => {
        // SAFETY: The opcode is one of the module's, and carries the size of the type that its call
        // reads.
        unsafe { ioctl(&$self.file, Setter::<{ $opcode as Opcode }, _>::new($value)) }
    };
}

/// Makes a call that reads and writes a structure.
macro_rules! update {
    ($self:ident, $opcode:expr, $value:expr) => {
        // SAFETY: The opcode is one of the module's, and carries the size of the type that its call
        // reads and writes. Other memory is written only where its caller says so.
        unsafe {
            ioctl(
                &$self.file,
                Updater::<{ $opcode as Opcode }, _>::new($value),
            )
        }
    };
}

impl Session {
    /// Path of the device.
    pub fn device_path() -> String {
        format!("/dev/{}", uapi::DEVICE_NAME)
    }

    /// Opens the device: an idle session of one's own. Asks the module for its version and sizes.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::NotPermitted`], [`Error::Open`], and [`Error::NotSpoken`],
    /// [`Error::Version`] or [`Error::RecordSize`] where the module is of another release.
    pub fn open() -> Result<Self> {
        Self::open_path(Path::new(&Self::device_path()))
    }

    /// The open file of the device.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn open_path(device: &Path) -> Result<Self> {
        let path = device.display().to_string();
        let file = rustix::fs::open(device, OFlags::RDWR | OFlags::CLOEXEC, FileMode::empty())
            .map_err(|errno| match errno {
                // ENODEV and ENXIO: a node that was left behind.
                Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                    Error::NotLoaded { path: path.clone() }
                }
                Errno::PERM if is_locked_down() => Error::LockedDown { path: path.clone() },
                Errno::PERM | Errno::ACCESS => Error::NotPermitted { path: path.clone() },
                other => Error::Open {
                    path: path.clone(),
                    source: other.into(),
                },
            })?;
        let info = read_info(file.as_fd()).map_err(|errno| match errno {
            // The size of the answer is part of the number of the call.
            Errno::NOTTY => Error::NotSpoken {
                path,
                tool: uapi::ABI_VERSION,
            },
            other => refused("tell its version", other),
        })?;
        check(&info)?;
        Ok(Self {
            file,
            cpus: info.cpus,
            max_sessions: info.max_sessions,
            page_bytes: page_bytes(&info),
        })
    }

    /// What the module can do, and what this session is.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; it cannot fail once the session is open.
    pub fn info(&self) -> Result<uapi::Info> {
        read_info(self.file.as_fd()).map_err(|errno| refused("tell its state", errno))
    }

    /// Number of CPU ids: each is below it. Some may belong to no CPU.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Most sessions that can run at the same time.
    pub fn max_sessions(&self) -> u32 {
        self.max_sessions
    }

    /// Size of the kernel's pages, in bytes.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Sets up the idle session.
    ///
    /// # Errors
    ///
    /// [`Error::RingSize`]; [`Error::NotInitialNamespace`]; [`Error::Refused`] where the session is not idle, or the watermark is larger
    /// than a ring.
    pub fn configure(&self, settings: &Settings) -> Result<()> {
        let &Settings {
            ring_bytes,
            mode,
            follow,
            all,
            sideband,
            latency,
            stacks,
            hook,
            clock,
            watermark_bytes,
            retell,
        } = settings;
        let (stack_flag, stack) = stacks.config();
        let least = self.page_bytes().max(uapi::RING_BYTES_MIN);
        let range = least..=uapi::RING_BYTES_MAX;
        if !ring_bytes.is_power_of_two() || !range.contains(&ring_bytes) {
            return Err(Error::RingSize {
                bytes: ring_bytes,
                least,
            });
        }
        let flag = |wanted, flag| if wanted { flag } else { 0 };
        let config = uapi::Config {
            ring_bytes,
            mode: mode.code(),
            flags: flag(follow, session_flag::FOLLOW)
                | flag(all, session_flag::ALL)
                | flag(sideband, session_flag::SIDEBAND)
                | flag(latency, session_flag::LATENCY)
                | stack_flag
                | flag(hook == Hook::Ftrace, session_flag::FTRACE)
                | flag(retell, session_flag::RETELL),
            watermark_bytes,
            clock: clock.code(),
            stack,
        };
        set!(self, uapi::FT_IOC_CONFIGURE, config).map_err(|errno| match errno {
            Errno::ACCESS => Error::NotOwn,
            Errno::PERM => Error::NotInitialNamespace,
            other => refused("configure the session", other),
        })
    }

    /// Waits until a ring has come to the watermark, the targets have ended, `other` can be read, or
    /// the time is over; or until a signal comes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; it cannot fail but for want of memory.
    pub fn wait(&self, other: BorrowedFd<'_>, timeout: Duration) -> Result<Readiness> {
        self.wait_for(PollFlags::IN, other, timeout)
    }

    /// As [`Session::wait`], whatever is in the rings.
    ///
    /// # Errors
    ///
    /// As for [`Session::wait`].
    pub fn wait_for_end(&self, other: BorrowedFd<'_>, timeout: Duration) -> Result<Readiness> {
        self.wait_for(PollFlags::empty(), other, timeout)
    }

    fn wait_for(
        &self,
        wanted: PollFlags,
        other: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<Readiness> {
        let mut files = [
            PollFd::new(&self.file, wanted),
            PollFd::from_borrowed_fd(other, PollFlags::IN),
        ];
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Readiness::default()),
            Err(errno) => return Err(refused("wait for records", errno)),
        }
        let [own, other] = files.map(|file| file.revents());
        Ok(Readiness {
            readable: own.contains(PollFlags::IN),
            ended: own.intersects(PollFlags::HUP | PollFlags::ERR),
            other: !other.is_empty(),
        })
    }

    /// Adds a process, all its threads included, by its id in the caller's pid namespace: from
    /// [`Session::start`] on if the session is idle, from now on if it is running.
    ///
    /// # Errors
    ///
    /// [`Error::NoProcess`]; [`Error::TooManyTargets`]; [`Error::NotOwn`]; [`Error::Refused`] where the id is not positive, the
    /// session stopped, or the caller without rights.
    pub fn add_target(&self, pid: i32) -> Result<()> {
        self.add(uapi::Target { pid, flags: 0 })
    }

    /// As [`Session::add_target`], but the process is a target from the moment on when it executes a program.
    ///
    /// # Errors
    ///
    /// As for [`Session::add_target`].
    pub fn add_target_on_exec(&self, pid: i32) -> Result<()> {
        let flags = uapi::target_flag::ON_EXEC;
        self.add(uapi::Target { pid, flags })
    }

    fn add(&self, target: uapi::Target) -> Result<()> {
        let pid = target.pid;
        set!(self, uapi::FT_IOC_TARGET_ADD, target).map_err(|errno| match errno {
            Errno::SRCH => Error::NoProcess { pid },
            Errno::NOSPC => Error::TooManyTargets { pid },
            Errno::ACCESS => Error::NotOwn,
            other => refused("add the process", other),
        })
    }

    /// Adds a rule to the idle session, which then names no targets.
    ///
    /// # Errors
    ///
    /// [`Error::NoProcess`]; [`Error::RulesNotInitialNamespace`]; [`Error::TooManyRules`]; [`Error::Refused`] where the
    /// session is not idle or names targets, or the rule makes no sense.
    pub fn add_rule(&self, rule: &Rule<'_>) -> Result<()> {
        use uapi::rule_kind as kind;
        let mut name = [0; 16];
        let (kind, value) = match rule.kind {
            // CAST: of one that is negative, the module says that it makes no sense.
            RuleKind::Process(pid) => (kind::PROCESS, pid as u64),
            RuleKind::User(user) => (kind::USER, user.into()),
            RuleKind::Cgroup(number) => (kind::CGROUP, number),
            // CAST: descriptors are not negative.
            RuleKind::Executable(file) => (kind::EXECUTABLE, file.as_raw_fd() as u64),
            RuleKind::Name(bytes) => {
                for (to, from) in name.iter_mut().zip(bytes) {
                    *to = *from;
                }
                (kind::NAME, 0)
            }
        };
        let flags = match rule.except {
            true => uapi::rule_flag::EXCEPT,
            false => 0,
        };
        let request = uapi::Rule {
            kind,
            flags,
            value,
            name,
        };
        set!(self, uapi::FT_IOC_RULE_ADD, request).map_err(|errno| match (errno, rule.kind) {
            (Errno::SRCH, RuleKind::Process(pid)) => Error::NoProcess { pid },
            (Errno::ACCESS, _) => Error::NotOwn,
            (Errno::PERM, _) => Error::RulesNotInitialNamespace,
            (Errno::NOSPC, _) => Error::TooManyRules,
            (other, _) => refused("choose processes so", other),
        })
    }

    /// Sets which faults the idle session records.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session is not idle, or the filter makes no sense.
    pub fn set_filter(&self, filter: &uapi::Filter) -> Result<()> {
        set!(self, uapi::FT_IOC_FILTER, *filter).map_err(|errno| refused("choose faults so", errno))
    }

    /// Has the idle session record faults in mappings of this name alone, or of one added before. See
    /// [`uapi::FilterMapping`].
    ///
    /// # Errors
    ///
    /// [`Error::MappingName`] if it is longer than 255 bytes; [`Error::TooManyMappings`]; [`Error::Refused`] where the
    /// session is not idle.
    pub fn add_filter_mapping(&self, name: &[u8]) -> Result<()> {
        let mut request = uapi::FilterMapping { name: [0; 256] };
        if name.len() >= request.name.len() || name.contains(&0) {
            return Err(Error::MappingName);
        }
        request.name[..name.len()].copy_from_slice(name);
        set!(self, uapi::FT_IOC_FILTER_MAPPING, request).map_err(|errno| match errno {
            Errno::NOSPC => Error::TooManyMappings,
            other => refused("choose mappings so", other),
        })
    }

    /// No longer traces a process; children that were followed stay.
    ///
    /// # Errors
    ///
    /// [`Error::NoProcess`] if it is no target or has ended; [`Error::Refused`] as for
    /// [`Session::add_target`].
    pub fn remove_target(&self, pid: i32) -> Result<()> {
        set!(
            self,
            uapi::FT_IOC_TARGET_REMOVE,
            uapi::Target { pid, flags: 0 }
        )
        .map_err(|errno| match errno {
            Errno::SRCH => Error::NoProcess { pid },
            other => refused("remove the process", other),
        })
    }

    /// Allocates the rings and starts to record.
    ///
    /// # Errors
    ///
    /// [`Error::NoMemory`], [`Error::MemoryLimit`], [`Error::TooManySessions`], [`Error::ShareTaken`], [`Error::TargetsEnded`],
    /// [`Error::NoFtraceHook`], [`Error::Deaf`]; [`Error::Refused`] where the session is not idle or the probe cannot be placed.
    pub fn start(&self) -> Result<()> {
        let kib = || self.info().map_or(0, |info| info.ring_bytes / 1024);
        call!(self, uapi::FT_IOC_START).map_err(|errno| match errno {
            Errno::NOMEM => Error::NoMemory {
                kib: kib(),
                cpus: self.cpus,
            },
            Errno::PERM => Error::MemoryLimit {
                kib: kib(),
                cpus: self.cpus,
            },
            Errno::DQUOT => Error::ShareTaken {
                max: self.max_sessions,
            },
            Errno::BUSY => Error::TooManySessions {
                max: self.max_sessions,
            },
            Errno::ACCESS => Error::NotOwn,
            Errno::SRCH => Error::TargetsEnded,
            Errno::OPNOTSUPP => Error::NoFtraceHook,
            Errno::IO => Error::Deaf,
            other => refused("start recording", other),
        })
    }

    /// Has the module tell of each thread of the targets, so that what is drained next has their names.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session is not running.
    pub fn tell_alive(&self) -> Result<()> {
        call!(self, uapi::FT_IOC_TELL_ALIVE).map_err(|errno| refused("tell of the threads", errno))
    }

    /// Stops recording: what was recorded can still be drained, and the counters are final.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session is not running.
    pub fn stop(&self) -> Result<()> {
        call!(self, uapi::FT_IOC_STOP).map_err(|errno| refused("stop recording", errno))
    }

    /// Lets this file stand for the session of the module parameters (`pid=N`) from now on, in place of
    /// its own idle one.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToAdopt`], [`Error::AlreadyAdopted`]; [`Error::Refused`] where this session is
    /// not idle.
    pub fn adopt(&self) -> Result<()> {
        call!(self, uapi::FT_IOC_ADOPT).map_err(|errno| match errno {
            Errno::NOENT => Error::NothingToAdopt,
            Errno::BUSY => Error::AlreadyAdopted,
            other => refused("hand over the session of its parameters", other),
        })
    }

    /// Takes the oldest records of a CPU out of its ring, as many as fit in `buffer`, which must hold
    /// [`BUFFER_WORDS_MIN`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session was never started, the buffer is shorter than a record, or
    /// there is no such CPU.
    pub fn drain_cpu<'a>(&self, cpu: u32, buffer: &'a mut [u64]) -> Result<Drained<'a>> {
        let length = u32::try_from(size_of_val(buffer)).unwrap_or(!7);
        let mut request = uapi::Drain {
            buffer: buffer.as_mut_ptr().expose_provenance() as u64,
            length,
            cpu,
            bytes: 0,
            gap_slots: 0,
        };
        // The call writes at most `length` bytes to `buffer`, which is borrowed mutably for its
        // duration.
        update!(self, uapi::FT_IOC_DRAIN, &mut request)
            .map_err(|errno| refused("drain a CPU's ring", errno))?;
        let bytes = request.bytes.min(length);
        Ok(Drained {
            emptied: (length - bytes) as usize / 8 >= LONGEST_RECORD_WORDS,
            words: &buffer[..bytes as usize / 8],
            gap_slots: request.gap_slots.into(),
        })
    }

    /// The account of one CPU's ring; `None` if no CPU has this id.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session was never started.
    pub fn counters(&self, cpu: u32) -> Result<Option<uapi::CpuCounters>> {
        let mut counters = uapi::CpuCounters {
            cpu,
            ..Default::default()
        };
        match update!(self, uapi::FT_IOC_CPU_COUNTERS, &mut counters) {
            Ok(()) => Ok(Some(counters)),
            // Ids below the number of ids can be without a CPU. A session without rings is refused by
            // the same number, so that it must be told apart.
            Err(Errno::INVAL) if self.info()?.state != state::IDLE => Ok(None),
            Err(errno) => Err(refused("tell a CPU's counters", errno)),
        }
    }

    /// A clock of the records, as the kernel reads it itself: the caller's own may be that of a time namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; it cannot fail once the session is open.
    pub fn time(&self, clock: Clock) -> Result<Time> {
        let mut time = uapi::Time {
            clock: clock.code(),
            ..Default::default()
        };
        update!(self, uapi::FT_IOC_CLOCK, &mut time)
            .map_err(|errno| refused("tell the time", errno))?;
        Ok(Time {
            time_ns: time.time_ns,
            wall: WallOffset {
                offset_ns: time.wall_offset_ns,
                error_ns: time.wall_error_ns,
            },
        })
    }

    /// What the running session of an index below [`Session::max_sessions`] is doing; `None` if there is
    /// none of this index. Any session may be asked about, not only one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; it cannot fail once the session is open.
    pub fn overview(&self, index: u32) -> Result<Option<uapi::SessionInfo>> {
        let mut session = uapi::SessionInfo {
            index,
            ..Default::default()
        };
        update!(self, uapi::FT_IOC_SESSION, &mut session)
            .map_err(|errno| refused("tell what its sessions do", errno))?;
        Ok((session.present != 0).then_some(session))
    }
}

/// Whether the kernel says that it is locked down for confidentiality.
fn is_locked_down() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|text| text.contains("[confidentiality]"))
}

fn refused(action: &'static str, errno: Errno) -> Error {
    Error::Refused {
        action,
        source: io::Error::from(errno),
    }
}

fn read_info(file: std::os::fd::BorrowedFd<'_>) -> std::result::Result<uapi::Info, Errno> {
    // SAFETY: The opcode is one of the module's, and carries the size of the type that its call writes.
    unsafe {
        ioctl(
            file,
            Getter::<{ uapi::FT_IOC_INFO as Opcode }, uapi::Info>::new(),
        )
    }
}

/// Whether this program and the module are made for each other.
/// See [`Session::page_bytes`].
fn page_bytes(info: &uapi::Info) -> u64 {
    match info.page_bytes {
        // Modules that do not tell it are for x86-64 alone.
        0 => 4096,
        bytes => bytes.into(),
    }
}

fn check(info: &uapi::Info) -> Result<()> {
    if info.abi_version != uapi::ABI_VERSION {
        return Err(Error::Version {
            module: info.abi_version,
            tool: uapi::ABI_VERSION,
        });
    }
    if info.fault_record_bytes as usize != SLOT_BYTES || info.slot_bytes as usize != SLOT_BYTES {
        return Err(Error::RecordSize {
            record: info.fault_record_bytes,
            slot: info.slot_bytes,
            expected: SLOT_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_advises_to_load_the_module() {
        let error = Session::open_path(Path::new("/dev/no-such-device")).unwrap_err();
        assert!(matches!(error, Error::NotLoaded { .. }));
        let message = error.to_string();
        assert!(message.contains("/dev/no-such-device") && message.contains("not loaded"));
    }

    #[test]
    fn another_device_is_told_from_the_module() {
        let error = Session::open_path(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, Error::NotSpoken { .. }), "{error:?}");
    }

    #[test]
    fn versions_and_sizes_are_checked_and_named() {
        let good = uapi::Info {
            abi_version: uapi::ABI_VERSION,
            fault_record_bytes: 32,
            slot_bytes: 32,
            ..Default::default()
        };
        assert!(check(&good).is_ok());
        let error = check(&uapi::Info {
            abi_version: 77,
            ..good
        })
        .unwrap_err();
        assert!(error.to_string().contains("ABI version 77"));
        let error = check(&uapi::Info {
            slot_bytes: 64,
            ..good
        })
        .unwrap_err();
        assert!(error.to_string().contains("in slots of 64"));
    }

    #[test]
    fn modes_and_their_numbers() {
        for mode in [Mode::Discard, Mode::Overwrite] {
            assert_eq!(Mode::from_code(mode.code()), Some(mode));
        }
        assert_eq!(Mode::from_code(7), None);
    }
}
