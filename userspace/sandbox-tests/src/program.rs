// SPDX-License-Identifier: GPL-2.0-only

//! Programs under trace: started behind a gate, so that not one of their faults is missed.

use std::{
    env,
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    device::{Recording, Session, Setup},
    truth::Truth,
};

/// Finds a program on PATH.
pub fn find(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not on PATH ({})", path.to_string_lossy()))
}

/// The program of known faults.
pub const WORKLOAD: &str = "ft-workload";

/// A child that waits at a gate and then executes a program.
pub struct Program {
    pid: i32,
    gate: Option<OwnedFd>,
    ended: bool,
}

/// How a program ended and what the kernel counted for it and the children it waited for.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Wait status.
    pub status: i32,
    /// Minor faults.
    pub minor: u64,
    /// Major faults.
    pub major: u64,
    /// Time on processors, in user space and in the kernel.
    pub cpu: Duration,
}

impl Usage {
    /// Checks that the program ended well.
    pub fn assert_success(&self) {
        assert!(
            libc::WIFEXITED(self.status) && libc::WEXITSTATUS(self.status) == 0,
            "the program failed: wait status {:#x}",
            self.status
        );
    }
}

impl Program {
    /// Makes the child; on one CPU alone, if one is named.
    pub fn new<I, S>(name: &str, arguments: I, cpu: Option<usize>) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::make(name, arguments, cpu, None)
    }

    /// Makes the child, which writes its messages to a file.
    pub fn with_stderr<I, S>(name: &str, arguments: I, messages: &File) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::make(name, arguments, None, Some(messages))
    }

    fn make<I, S>(name: &str, arguments: I, cpu: Option<usize>, messages: Option<&File>) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let messages = messages.map(AsRawFd::as_raw_fd);
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).expect("no zero byte");
        let program = c_string(find(name).as_os_str());
        let mut words = vec![c_string(OsStr::new(name))];
        words.extend(arguments.into_iter().map(|word| c_string(word.as_ref())));
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (wait, gate) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("cannot make a pipe");

        // SAFETY: Between fork and exec the child makes system calls alone, on memory prepared before;
        // the pointers are those of strings that it has a copy of.
        let pid = unsafe {
            match libc::fork() {
                -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
                0 => {
                    libc::close(gate.as_raw_fd());
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    if let Some(messages) = messages {
                        libc::dup2(messages, libc::STDERR_FILENO);
                    }
                    if let Some(cpu) = cpu {
                        let mut set: libc::cpu_set_t = std::mem::zeroed();
                        libc::CPU_SET(cpu, &mut set);
                        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
                    }
                    let mut byte = 0u8;
                    if libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 {
                        libc::execv(program.as_ptr(), pointers.as_ptr());
                    }
                    libc::_exit(127);
                }
                pid => pid,
            }
        };
        Self {
            pid,
            gate: Some(gate),
            ended: false,
        }
    }

    /// `ft-workload`.
    pub fn workload(arguments: &[&str], truth: Option<&Path>, cpu: Option<usize>) -> Self {
        let mut words: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        if let Some(truth) = truth {
            words.extend([OsStr::new("--truth"), truth.as_os_str()]);
        }
        Self::new(WORKLOAD, words, cpu)
    }

    /// A program that faults without end, running: at the lowest priority, so that it keeps the
    /// processors busy and the tests go on.
    pub fn load(arguments: &[&str]) -> Self {
        let mut program = Self::workload(arguments, None, None);
        // SAFETY: A system call on a child of ours that was not waited for, so that the id is its.
        let result =
            unsafe { libc::setpriority(libc::PRIO_PROCESS, program.pid.unsigned_abs(), 19) };
        assert_eq!(result, 0, "cannot lower the priority of the load");
        program.go();
        program
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        !self.stat().1.starts_with('Z')
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the child sleeps at the gate: from then on it faults no more until it is let go.
    pub fn wait_at_gate(&self) {
        while !self.stat().1.starts_with('S') {
            std::thread::yield_now();
        }
    }

    /// Its minor and major faults so far, as /proc tells.
    pub fn faults_so_far(&self) -> (u64, u64) {
        let (_, rest) = self.stat();
        let fields: Vec<&str> = rest.split(' ').collect();
        // Fields 10 and 12 of proc_pid_stat(5); `rest` begins with field 3.
        let field = |number: usize| {
            fields[number - 3]
                .parse()
                .expect("/proc/PID/stat has another form")
        };
        (field(10), field(12))
    }

    /// `/proc/PID/stat`, cut behind the name.
    fn stat(&self) -> (String, String) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .unwrap_or_else(|error| panic!("cannot look at process {}: {error}", self.pid));
        let (name, rest) = stat
            .rsplit_once(") ")
            .expect("/proc/PID/stat has another form");
        (name.to_owned(), rest.to_owned())
    }

    /// Lets it go.
    pub fn go(&mut self) {
        let gate = self.gate.take().expect("it is gone already");
        assert_eq!(
            rustix::io::write(&gate, &[1]),
            Ok(1),
            "cannot open the gate"
        );
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Usage {
        self.reap()
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // SAFETY: A system call on a child of ours that was not waited for, so that the id is its.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        self.reap();
    }

    fn reap(&mut self) -> Usage {
        let mut status = 0;
        // SAFETY: Zero is a value of all its fields.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: Both are ours for the time of the call.
        while unsafe { libc::wait4(self.pid, &raw mut status, 0, &raw mut usage) } != self.pid {
            let error = io::Error::last_os_error();
            assert_eq!(
                error.kind(),
                io::ErrorKind::Interrupted,
                "cannot wait for process {}: {error}",
                self.pid
            );
        }
        self.ended = true;
        Usage {
            status,
            minor: usage.ru_minflt.unsigned_abs(),
            major: usage.ru_majflt.unsigned_abs(),
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_micros(time.tv_usec.unsigned_abs())
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

/// A run of `ft-workload` under trace.
pub struct Run {
    /// What it says must be seen.
    pub truth: Truth,
    /// What was seen.
    pub recording: Recording,
    /// What the kernel counted.
    pub usage: Usage,
    /// Its process id.
    pub pid: u32,
}

/// Runs `ft-workload` under trace from its start to its end.
pub fn trace(setup: Setup, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("cannot make a folder");
    let file = folder.path().join("truth");
    let mut program = Program::workload(arguments, Some(&file), None);
    let session = Session::running(setup);
    session
        .add(program.pid())
        .expect("the program cannot be a target");
    let pid = program.pid().unsigned_abs();
    program.go();
    let usage = program.wait();
    usage.assert_success();
    assert_eq!(
        session.info().live_targets,
        0,
        "all targets have ended, and the session still has some"
    );
    let recording = session.finish();
    Run {
        truth: Truth::read(&file),
        recording,
        usage,
        pid,
    }
}
