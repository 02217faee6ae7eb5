// SPDX-License-Identifier: GPL-2.0-only

//! What `ft-workload` says must be seen of it.

use std::{collections::BTreeSet, fs, ops::Range, path::Path, str::FromStr};

use fault_tracer_uapi::{fault_flag, FaultRecord};

/// A fault that must be seen, or was: comparable with each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Address.
    pub address: u64,
    /// `r`, `w` or `x`.
    pub access: String,
    /// Names of the flags, without `tried` and `vma-lock`.
    pub flags: String,
}

impl From<&FaultRecord> for Fault {
    fn from(record: &FaultRecord) -> Self {
        let flags = record.flags();
        let access = if flags & fault_flag::INSTRUCTION != 0 {
            "x"
        } else if flags & fault_flag::WRITE != 0 {
            "w"
        } else {
            "r"
        };
        let shown = flags & !(fault_flag::TRIED | fault_flag::VMA_LOCK);
        let names: Vec<&str> = fault_flag::names(shown).collect();
        Self {
            pid: record.pid(),
            tid: record.tid(),
            address: record.address(),
            access: access.into(),
            flags: if names.is_empty() {
                "-".into()
            } else {
                names.join(",")
            },
        }
    }
}

impl Fault {
    /// Whether a recorded fault is this one. What was at the address is not compared where another CPU was changing
    /// the page table for longer than the module waits, as when the host of a guest does not let that CPU run.
    pub fn is(&self, recorded: &Self) -> bool {
        let names = |fault: &Self| -> Vec<String> {
            let of_entries = ["present", "swap-entry", "changing", "-"];
            let names = fault.flags.split(',');
            names
                .filter(|name| !of_entries.contains(name))
                .map(str::to_owned)
                .collect()
        };
        self == recorded
            || recorded.is_changing()
                && (self.pid, self.tid, self.address, &self.access)
                    == (
                        recorded.pid,
                        recorded.tid,
                        recorded.address,
                        &recorded.access,
                    )
                && names(self) == names(recorded)
    }

    /// Whether another CPU was changing the page table.
    pub fn is_changing(&self) -> bool {
        self.flags.split(',').any(|name| name == "changing")
    }
}

/// The truth of one run.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The program's code.
    pub text: Vec<Range<u64>>,
    /// Addresses of a process at which all faults are reported.
    pub regions: Vec<(u32, Range<u64>)>,
    /// The faults that complete; those of one thread in their order.
    pub faults: Vec<Fault>,
    /// The tool's name for the kind of each of them.
    pub kinds: Vec<String>,
    /// Faults that fail.
    pub failed: Vec<Place>,
    /// Accesses that are refused before there is a fault to handle.
    pub denied: Vec<Place>,
    /// First faults, with the wall clock's nanoseconds since 1970 before and after them.
    pub wall: Vec<(Place, i64, i64)>,
}

/// Where a fault was: comparable with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Address.
    pub address: u64,
}

impl Truth {
    /// Reads the file that the program wrote.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| {
            panic!("the program left no truth in {}: {error}", path.display())
        });
        text.parse()
            .unwrap_or_else(|line| panic!("{}: no line of a truth: {line}", path.display()))
    }

    /// The same with other process and thread ids: a program in a pid namespace tells those that it
    /// sees.
    #[must_use]
    pub fn with_ids(mut self, id: impl Fn(u32) -> u32) -> Self {
        for (pid, _) in &mut self.regions {
            *pid = id(*pid);
        }
        for fault in &mut self.faults {
            fault.pid = id(fault.pid);
            fault.tid = id(fault.tid);
        }
        let places = self.failed.iter_mut().chain(&mut self.denied);
        for place in places.chain(self.wall.iter_mut().map(|(place, ..)| place)) {
            place.pid = id(place.pid);
            place.tid = id(place.tid);
        }
        self
    }

    /// Whether all faults at an address of a process are reported.
    pub fn covers(&self, pid: u32, address: u64) -> bool {
        self.regions
            .iter()
            .any(|(owner, range)| *owner == pid && range.contains(&address))
    }

    /// The processes of the faults.
    pub fn processes(&self) -> BTreeSet<u32> {
        self.faults.iter().map(|fault| fault.pid).collect()
    }
}

impl FromStr for Truth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut truth = Self::default();
        for line in text.lines() {
            truth.line(line).ok_or_else(|| line.to_owned())?;
        }
        Ok(truth)
    }
}

impl Truth {
    fn line(&mut self, line: &str) -> Option<()> {
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let place = |pid: &str, tid: &str, address: &str| {
            Some(Place {
                pid: pid.parse().ok()?,
                tid: tid.parse().ok()?,
                address: hex(address)?,
            })
        };
        let fields: Vec<&str> = line.split(' ').collect();
        match *fields.as_slice() {
            ["text", start, end] => self.text.push(hex(start)?..hex(end)?),
            ["region", pid, start, end] => self
                .regions
                .push((pid.parse().ok()?, hex(start)?..hex(end)?)),
            ["fault", pid, tid, address, access, flags, kind] => {
                let Place { pid, tid, address } = place(pid, tid, address)?;
                self.faults.push(Fault {
                    pid,
                    tid,
                    address,
                    access: access.into(),
                    flags: flags.into(),
                });
                self.kinds.push(kind.into());
            }
            ["failed", pid, tid, address] => self.failed.push(place(pid, tid, address)?),
            ["denied", pid, tid, address] => self.denied.push(place(pid, tid, address)?),
            ["wall", pid, tid, address, before, after] => self.wall.push((
                place(pid, tid, address)?,
                before.parse().ok()?,
                after.parse().ok()?,
            )),
            _ => return None,
        }
        Some(())
    }
}
