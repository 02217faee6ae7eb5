// SPDX-License-Identifier: GPL-2.0-only

//! How processes that are no children of ours end.

use std::{
    fs,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::ExitStatus,
    thread,
};

use anyhow::Context as _;
use rustix::{
    event::{poll, PollFd, PollFlags},
    ioctl::{ioctl, opcode, Opcode, Updater},
    process::{pidfd_open, Pid, PidfdFlags},
};

use super::events::{Event, Sender};

/// `struct pidfd_info` of `include/uapi/linux/pidfd.h`, its first version.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `PIDFD_GET_INFO`.
const GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);
/// `PIDFD_INFO_EXIT`.
const EXIT: u64 = 1 << 3;

/// How a process has ended that its parent has waited for; `None` if it has not, or the kernel does not say.
fn status_of_reaped(process: &OwnedFd) -> Option<ExitStatus> {
    let mut info = PidfdInfo {
        mask: EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: The call reads and writes a structure of this type, whose size is part of its number.
    unsafe { ioctl(process, Updater::<GET_INFO, _>::new(&mut info)) }.ok()?;
    (info.mask & EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

/// How a process has ended that its parent has not waited for: the last field of `/proc/PID/stat`.
fn status_of_zombie(pid: i32) -> Option<ExitStatus> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let code = fields.split_whitespace().nth(49)?.parse().ok()?;
    fields
        .starts_with(['Z', 'X'])
        .then(|| ExitStatus::from_raw(code))
}

/// How a process has ended.
fn status(process: &OwnedFd, pid: i32) -> Option<ExitStatus> {
    // The parent may wait for it between the two.
    status_of_reaped(process)
        .or_else(|| status_of_zombie(pid))
        .or_else(|| status_of_reaped(process))
}

/// How a process has ended, in words, if that was bad: by a signal, or with a status that is not 0.
pub fn badly(name: &str, status: ExitStatus) -> Option<String> {
    if let Some(signal) = status.signal() {
        return Some(format!("{name} was ended by signal {signal}"));
    }
    let code = status.code().filter(|&code| code != 0)?;
    Some(format!("{name} ended with status {code}"))
}

/// Sends [`Event::Ended`] with the end of each of these processes that ends badly, and [`Event::AllEnded`] behind the last.
pub fn watch(pids: &[(i32, String)], events: Sender) -> anyhow::Result<()> {
    let mut processes = Vec::new();
    for (pid, name) in pids {
        let id = Pid::from_raw(*pid).context("a process without an id")?;
        let file = pidfd_open(id, PidfdFlags::empty())
            .with_context(|| format!("process {pid} cannot be referred to"))?;
        processes.push((file, *pid, name.clone()));
    }
    thread::Builder::new().name("ends".into()).spawn(move || {
        while !processes.is_empty() {
            let mut files: Vec<_> = processes
                .iter()
                .map(|(file, ..)| PollFd::new(file, PollFlags::IN))
                .collect();
            if poll(&mut files, None).is_err() {
                continue;
            }
            let ended: Vec<bool> = files
                .iter()
                .map(|file| !file.revents().is_empty())
                .collect();
            let mut ended = ended.into_iter();
            processes.retain(|(file, pid, name)| {
                let has_ended = ended.next().unwrap_or(false);
                if has_ended {
                    let name = format!("{name} (process {pid})");
                    let how = status(file, *pid).and_then(|status| badly(&name, status));
                    if let Some(how) = how {
                        events.send(Event::Ended(how));
                    }
                }
                !has_ended
            });
        }
        events.send(Event::AllEnded);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::events;
    use std::process::Command;

    #[test]
    fn bad_ends_are_told_apart() {
        let run = |script: &str| Command::new("sh").args(["-c", script]).status().unwrap();
        assert_eq!(badly("x", run("exit 0")), None);
        assert_eq!(badly("x", run("exit 3")).unwrap(), "x ended with status 3");
        let killed = badly("x", run("kill -SEGV $$")).unwrap();
        assert_eq!(killed, "x was ended by signal 11");
    }

    #[test]
    fn how_another_process_ends_is_seen() {
        let (sender, receiver) = events::channel().unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        // CAST: positive.
        let pid = child.id() as i32;
        watch(&[(pid, "sleep".into())], sender).unwrap();
        child.kill().unwrap();
        // Its parent has not waited for it yet.
        let Event::Ended(how) = receiver.next().unwrap() else {
            panic!("another event");
        };
        assert_eq!(how, format!("sleep (process {pid}) was ended by signal 9"));
        assert!(matches!(receiver.next().unwrap(), Event::AllEnded));
        let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        if let Some(status) = status_of_reaped(&process) {
            // Kernels before 6.15 do not say.
            assert_eq!(status.signal(), Some(9));
        }
        assert!(status_of_zombie(pid).is_none());
    }
}
