// SPDX-License-Identifier: GPL-2.0-only

//! The code that a running process has mapped: what was faulted in before a recording began.

use std::{fs, io};

use fault_tracer_client::Mapping;
use fault_tracer_uapi::mapping_flag;

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the inode of the initial pid namespace.
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// The mappings of code in `/proc/PID/maps`. None of a process that has ended, and none where this program
/// is in a pid namespace of its own: the ids there are not those of the records.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn mapped_code(pid: u32) -> io::Result<Vec<Mapping>> {
    if fs::read_link("/proc/self/ns/pid")?.as_os_str() != INITIAL_NAMESPACE {
        return Ok(Vec::new());
    }
    // A path may be of any bytes.
    let maps = match fs::read(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(parse_maps(pid, &String::from_utf8_lossy(&maps)))
}

/// The mappings of code in the text of a process's `/proc/PID/maps`.
pub fn parse_maps(pid: u32, maps: &str) -> Vec<Mapping> {
    maps.lines().filter_map(|line| code(pid, line)).collect()
}

/// The mapping of a line, if it is of code.
pub(crate) fn code(pid: u32, line: &str) -> Option<Mapping> {
    // 7f06ab000000-7f06ab021000 r-xp 00028000 fe:01 1835   /usr/lib/libc.so.6
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or("").trim_start();
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
        path: path.into(),
    })
}
