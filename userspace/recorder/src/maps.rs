// SPDX-License-Identifier: GPL-2.0-only

//! The code that a running process has mapped: what was faulted in before a recording began.

use std::{fs, io, os::unix::ffi::OsStrExt as _};

use fault_tracer_client::Mapping;
use fault_tracer_uapi::{mapping_flag, names::escape};
use rustix::io::Errno;

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the inode of the initial pid namespace.
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// How the kernel writes a newline in the paths of `/proc/PID/maps`. It leaves all other bytes as they are, the
/// backslash too.
const NEWLINE: &[u8] = b"\\012";

/// The mappings of code in `/proc/PID/maps`, or, where the first thread has ended and others go on, in that of
/// one of those. None of a process that has ended, and none where this program
/// is in a pid namespace of its own: the ids there are not those of the records.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn mapped_code(pid: u32) -> io::Result<Vec<Mapping>> {
    if !is_in_initial_namespace()? {
        return Ok(Vec::new());
    }
    let mut maps = read_or_nothing(&format!("/proc/{pid}/maps"))?;
    let mut tid = pid;
    if maps.is_empty() {
        for thread in threads(pid)? {
            maps = read_or_nothing(&format!("/proc/{pid}/task/{thread}/maps"))?;
            if !maps.is_empty() {
                tid = thread;
                break;
            }
        }
    }
    let mut mappings = parse_maps(pid, &maps);
    for mapping in &mut mappings {
        mapping.tid = tid;
        // It may be a newline, or those four characters. A link is not escaped.
        if mapping.path.contains("\\012") {
            let link = format!(
                "/proc/{tid}/map_files/{:x}-{:x}",
                mapping.start, mapping.end
            );
            if let Ok(path) = fs::read_link(link) {
                mapping.path = escape(path.as_os_str().as_bytes());
            }
        }
    }
    Ok(mappings)
}

/// Whether the ids of `/proc` are those of the records.
pub(crate) fn is_in_initial_namespace() -> io::Result<bool> {
    Ok(fs::read_link("/proc/self/ns/pid")?.as_os_str() == INITIAL_NAMESPACE)
}

/// A file of `/proc`; nothing where what it is of has ended.
fn read_or_nothing(path: &str) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if has_ended(&error) => Ok(Vec::new()),
        other => other,
    }
}

/// The ids of a process's threads; none of one that has ended.
fn threads(pid: u32) -> io::Result<Vec<u32>> {
    match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(entries) => {
            let mut threads = Vec::new();
            for entry in entries {
                threads.extend(
                    entry?
                        .file_name()
                        .to_str()
                        .and_then(|id| id.parse::<u32>().ok()),
                );
            }
            Ok(threads)
        }
        Err(error) if has_ended(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether an error of `/proc` says that the process or thread has ended.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

/// The mappings of code in what a process's `/proc/PID/maps` holds. The four characters that stand for a newline
/// there are read as one.
pub fn parse_maps(pid: u32, maps: &[u8]) -> Vec<Mapping> {
    let lines = maps.split(|&byte| byte == b'\n');
    lines.filter_map(|line| code(pid, line)).collect()
}

/// The mapping of a line, if it is of code.
pub(crate) fn code(pid: u32, line: &[u8]) -> Option<Mapping> {
    // 7f06ab000000-7f06ab021000 r-xp 00028000 fe:01 1835   /usr/lib/libc.so.6
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hexadecimal(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode: u64 = field()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let mut flags = mapping_flag::READ | mapping_flag::EXEC;
    if inode != 0 {
        flags |= mapping_flag::FILE;
    }
    Some(Mapping {
        time_ns: 0,
        tid: pid,
        pid,
        number: fault_tracer_uapi::MAPPING_UNKNOWN,
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        offset,
        inode,
        device: hexadecimal(major)? << 32 | hexadecimal(minor)?,
        flags,
        path: escape(&with_newlines(path)),
        file: None,
    })
}

/// A path with what stands for newlines replaced by them.
fn with_newlines(path: &[u8]) -> Vec<u8> {
    let mut rest = path;
    let mut real = Vec::with_capacity(rest.len());
    while let Some((&first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(NEWLINE) {
            real.push(b'\n');
            rest = behind;
        } else {
            real.push(first);
            rest = behind;
        }
    }
    real
}
