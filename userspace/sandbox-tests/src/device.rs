// SPDX-License-Identifier: GPL-2.0-only

//! The device: its calls one by one, and a session's whole recording.

use std::{
    env,
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use fault_tracer_uapi::{self as uapi, mode, session_flag, FaultRecord};

/// The device node.
pub fn path() -> PathBuf {
    Path::new("/dev").join(uapi::DEVICE_NAME)
}

/// An open file of the device.
pub struct Session {
    file: File,
}

impl AsRawFd for Session {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// How to record.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes of each CPU's ring.
    pub ring_bytes: u64,
    /// [`mode`].
    pub mode: u32,
    /// Trace children too.
    pub follow: bool,
    /// What sees the faults: [`session_flag::FTRACE`], or 0 for the kprobe.
    pub hook: u32,
}

/// What the variable `FAULT_TRACER_HOOK` names, which the tool obeys too: so that all tests can be run by either hook.
fn hook_flag() -> u32 {
    match env::var("FAULT_TRACER_HOOK").as_deref() {
        Ok("ftrace") => session_flag::FTRACE,
        Ok("kprobe") | Err(env::VarError::NotPresent) => 0,
        other => panic!("FAULT_TRACER_HOOK names no hook: {other:?}"),
    }
}

impl Default for Setup {
    /// So large a ring that nothing is lost, and the hook that the variable names.
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            mode: mode::DISCARD,
            follow: true,
            hook: hook_flag(),
        }
    }
}

impl Session {
    /// Opens the device.
    pub fn open() -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path())?;
        Ok(Self { file })
    }

    /// A session set up but not started.
    pub fn idle(setup: Setup) -> Self {
        let session = Self::open().expect("cannot open the device");
        session.configure(setup).expect("the setup is refused");
        session
    }

    /// A running session without targets.
    pub fn running(setup: Setup) -> Self {
        let session = Self::idle(setup);
        session.start().expect("the session does not start");
        session
    }

    /// A running session without targets, set up by the very structure that the kernel gets, but for the hook.
    pub fn configured(mut config: uapi::Config) -> Self {
        let session = Self::open().expect("cannot open the device");
        config.flags |= hook_flag();
        session
            .with(uapi::FT_IOC_CONFIGURE, &mut config)
            .expect("the configuration is refused");
        session.start().expect("the session does not start");
        session
    }

    /// Makes any call.
    ///
    /// # Safety
    ///
    /// What `argument` points to may be written by the kernel as the call says.
    pub unsafe fn call(&self, command: u32, argument: usize) -> io::Result<()> {
        // SAFETY: By this function's contract.
        match unsafe { libc::ioctl(self.as_raw_fd(), command.into(), argument) } {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            other => panic!("ioctl {command:#x} gave {other}"),
        }
    }

    /// Makes a call on a structure of the ABI.
    pub fn with<T>(&self, command: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: The callers in this crate give the structure that belongs to the command, whose size
        // is part of the command's number.
        unsafe { self.call(command, &raw mut *argument as usize) }
    }

    /// `FT_IOC_INFO`
    pub fn info(&self) -> uapi::Info {
        let mut info = uapi::Info::default();
        self.with(uapi::FT_IOC_INFO, &mut info)
            .expect("INFO failed");
        info
    }

    /// `FT_IOC_CONFIGURE`
    pub fn configure(&self, setup: Setup) -> io::Result<()> {
        self.with(
            uapi::FT_IOC_CONFIGURE,
            &mut uapi::Config {
                ring_bytes: setup.ring_bytes,
                mode: setup.mode,
                flags: if setup.follow {
                    session_flag::FOLLOW | setup.hook
                } else {
                    setup.hook
                },
                ..uapi::Config::default()
            },
        )
    }

    /// `FT_IOC_TARGET_ADD`
    pub fn add(&self, pid: i32) -> io::Result<()> {
        let mut target = uapi::Target { pid, flags: 0 };
        self.with(uapi::FT_IOC_TARGET_ADD, &mut target)
    }

    /// `FT_IOC_TARGET_REMOVE`
    pub fn remove(&self, pid: i32) -> io::Result<()> {
        let mut target = uapi::Target { pid, flags: 0 };
        self.with(uapi::FT_IOC_TARGET_REMOVE, &mut target)
    }

    /// `FT_IOC_START`
    pub fn start(&self) -> io::Result<()> {
        // SAFETY: The call has no argument.
        unsafe { self.call(uapi::FT_IOC_START, 0) }
    }

    /// `FT_IOC_STOP`
    pub fn stop(&self) -> io::Result<()> {
        // SAFETY: The call has no argument.
        unsafe { self.call(uapi::FT_IOC_STOP, 0) }
    }

    /// `FT_IOC_ADOPT`
    pub fn adopt(&self) -> io::Result<()> {
        // SAFETY: The call has no argument.
        unsafe { self.call(uapi::FT_IOC_ADOPT, 0) }
    }

    /// `FT_IOC_CPU_COUNTERS`
    pub fn counters(&self, cpu: u32) -> io::Result<uapi::CpuCounters> {
        let mut counters = uapi::CpuCounters {
            cpu,
            ..Default::default()
        };
        self.with(uapi::FT_IOC_CPU_COUNTERS, &mut counters)?;
        Ok(counters)
    }

    /// The account of all CPUs together.
    pub fn totals(&self) -> uapi::CpuCounters {
        let mut total = uapi::CpuCounters::default();
        for cpu in 0..self.info().cpus {
            let of = self.counters(cpu).expect("the counters cannot be read");
            total.hits += of.hits;
            total.recorded += of.recorded;
            total.dropped += of.dropped;
            total.overwritten += of.overwritten;
            total.pending += of.pending;
        }
        total
    }

    /// Asks for the account of each CPU, whatever the answers are: where a consumer page holds nonsense,
    /// their sum may not even be a number.
    pub fn totals_or_nonsense(&self) {
        for cpu in 0..self.info().cpus {
            self.counters(cpu).expect("the counters cannot be read");
        }
    }

    /// `FT_IOC_SESSION`
    pub fn overview(&self, index: u32) -> uapi::SessionInfo {
        let mut info = uapi::SessionInfo {
            index,
            ..Default::default()
        };
        self.with(uapi::FT_IOC_SESSION, &mut info)
            .expect("SESSION failed");
        info
    }

    /// All running sessions.
    pub fn overviews(&self) -> Vec<uapi::SessionInfo> {
        (0..self.info().max_sessions)
            .map(|index| self.overview(index))
            .filter(|info| info.present == 1)
            .collect()
    }

    /// `FT_IOC_DRAIN` into words: how many were written.
    pub fn drain_into(&self, cpu: u32, buffer: &mut [u64]) -> io::Result<usize> {
        let mut drain = uapi::Drain {
            buffer: buffer.as_mut_ptr() as u64,
            length: u32::try_from(buffer.len() * 8).expect("the buffer is below 4 GiB"),
            cpu,
            ..Default::default()
        };
        self.with(uapi::FT_IOC_DRAIN, &mut drain)?;
        let bytes = drain.bytes as usize;
        assert!(
            bytes <= buffer.len() * 8 && bytes % uapi::SLOT_BYTES == 0,
            "a drain into {} bytes gave {bytes}",
            buffer.len() * 8
        );
        Ok(bytes / 8)
    }

    /// All that one CPU's ring holds at this time, as words.
    pub fn drain_words(&self, cpu: u32) -> Vec<u64> {
        let mut buffer = vec![0; 64 * 1024];
        let mut words = Vec::new();
        loop {
            let got = self
                .drain_into(cpu, &mut buffer)
                .unwrap_or_else(|error| panic!("cannot drain CPU {cpu}: {error}"));
            if got == 0 {
                return words;
            }
            words.extend_from_slice(&buffer[..got]);
        }
    }

    /// All that one CPU's ring holds at this time.
    pub fn drain(&self, cpu: u32) -> Vec<FaultRecord> {
        let words = self.drain_words(cpu);
        let fault = |slot: &[u64]| match uapi::header_type(slot[0]) {
            uapi::record_type::FAULT => Some(FaultRecord::from_words(
                slot.try_into().expect("a chunk has four words"),
            )),
            uapi::record_type::PAD => None,
            other => panic!("a record of unknown type {other}: {slot:x?}"),
        };
        words.chunks_exact(4).filter_map(fault).collect()
    }

    /// Stops the session and takes out all it has recorded. Checks the account and the order of times.
    pub fn finish(&self) -> Recording {
        self.stop().expect("the session does not stop");
        self.collect(&[])
    }

    /// Takes out all that a stopped session has recorded, behind what was drained `before`.
    pub fn collect(&self, before: &[Vec<FaultRecord>]) -> Recording {
        let (cpus, accounts, missed) = self.take_behind(before, Self::drain);
        let recording = Recording {
            cpus,
            accounts,
            missed,
        };
        recording.assert_sound();
        recording
    }

    /// Of each CPU, what was drained `before` and what `drain` now takes out, and its account; and what was
    /// missed.
    pub fn take_behind<T: Clone>(
        &self,
        before: &[Vec<T>],
        drain: impl Fn(&Self, u32) -> Vec<T>,
    ) -> (Vec<Vec<T>>, Vec<uapi::CpuCounters>, u64) {
        let info = self.info();
        let of_cpu = |cpu: u32| {
            let mut all = before.get(cpu as usize).cloned().unwrap_or_default();
            all.extend(drain(self, cpu));
            (
                all,
                self.counters(cpu).expect("the counters cannot be read"),
            )
        };
        let (cpus, accounts) = (0..info.cpus).map(of_cpu).unzip();
        (cpus, accounts, info.missed)
    }
}

/// All that a session has recorded, by CPU.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The records of each CPU, in the order of its ring.
    pub cpus: Vec<Vec<FaultRecord>>,
    /// The account of each CPU.
    pub accounts: Vec<uapi::CpuCounters>,
    /// Faults that the probe missed.
    pub missed: u64,
}

impl Recording {
    /// Records of all CPUs.
    pub fn len(&self) -> usize {
        self.cpus.iter().map(Vec::len).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All records by their times; those of one CPU in their order.
    pub fn in_time_order(&self) -> Vec<FaultRecord> {
        let mut records: Vec<FaultRecord> = self.cpus.iter().flatten().copied().collect();
        records.sort_by_key(|record| record.time_ns);
        records
    }

    /// Faults that are in the account but not recorded.
    pub fn lost(&self) -> u64 {
        let of_cpus: u64 = self
            .accounts
            .iter()
            .map(|a| a.dropped + a.overwritten)
            .sum();
        of_cpus + self.missed
    }

    /// Checks that nothing was lost.
    pub fn assert_complete(&self) {
        assert_eq!(self.lost(), 0, "faults were lost: {:?}", self.accounts);
    }

    fn assert_sound(&self) {
        for (cpu, (records, account)) in self.cpus.iter().zip(&self.accounts).enumerate() {
            assert_eq!(
                account.hits,
                account.recorded + account.dropped + account.overwritten,
                "CPU {cpu}: the account does not balance: {account:?}"
            );
            assert_eq!(
                records.len() as u64,
                account.recorded,
                "CPU {cpu}: records delivered, and those in the account: {account:?}"
            );
            assert_eq!(account.pending, 0, "CPU {cpu}: drained, but {account:?}");
            for pair in records.windows(2) {
                assert!(
                    pair[0].time_ns <= pair[1].time_ns,
                    "CPU {cpu}: time goes back from {} to {} ns",
                    pair[0].time_ns,
                    pair[1].time_ns
                );
            }
        }
    }
}
