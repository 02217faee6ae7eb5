// SPDX-License-Identifier: GPL-2.0-only

//! Comparison of what was recorded with what is known to have happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fault_tracer_uapi::{fault_flag, FaultRecord, COUNTER_MASK};

use crate::{
    device::{Recording, Setup},
    program,
    truth::{Fault, Truth},
};

/// How many differences a failure shows.
const SHOWN: usize = 8;

/// A thread: process and thread id.
pub type Thread = (u32, u32);

/// The records of each thread, in the order of its faults.
pub fn by_thread(recording: &Recording) -> BTreeMap<Thread, Vec<FaultRecord>> {
    let mut threads = BTreeMap::<Thread, Vec<FaultRecord>>::new();
    for record in recording.in_time_order() {
        threads
            .entry((record.pid(), record.tid()))
            .or_default()
            .push(record);
    }
    threads
}

/// How far a thread's two counters went between two of its records, as their low bits tell.
pub fn step(from: &FaultRecord, to: &FaultRecord) -> (u8, u8) {
    (
        low_bits(to.min_flt_low().wrapping_sub(from.min_flt_low()).into()),
        low_bits(to.maj_flt_low().wrapping_sub(from.maj_flt_low()).into()),
    )
}

/// The low bits of a counter, as many as a record has.
pub fn low_bits(counter: u64) -> u8 {
    (counter & COUNTER_MASK) as u8
}

/// Those of a thread's records that stand for a fault that completed, in their order.
///
/// The kernel counts a fault when it completes. So between a record and the thread's next one the
/// counters went up by one, or, if the attempt failed or had to be made again, not at all; by more only
/// if a fault in between is missing from the records. What became of the last one is not known here; it
/// counts as completed.
///
/// When a thread other than the first executes a program, it takes over the first one's id and keeps
/// its own counters: there the first thread's records end, and the other's go on.
pub fn completed(threads: &BTreeMap<Thread, Vec<FaultRecord>>, thread: Thread) -> Vec<FaultRecord> {
    let records = &threads[&thread];
    let mut faults = Vec::new();
    for pair in records.windows(2) {
        match step(&pair[0], &pair[1]) {
            (1, 0) | (0, 1) => faults.push(pair[0]),
            (0, 0) => {}
            _ if took_over(threads, thread, &pair[1]) => faults.push(pair[0]),
            (minor, major) => panic!(
                "faults are missing between two records of thread {}: its counters went up by {minor} \
                 minor and {major} major between {:x?} and {:x?}",
                pair[0].tid(),
                Fault::from(&pair[0]),
                Fault::from(&pair[1]),
            ),
        }
    }
    faults.extend(records.last());
    faults
}

/// Whether a record of a process's first thread goes on where another thread of it ended.
fn took_over(
    threads: &BTreeMap<Thread, Vec<FaultRecord>>,
    (pid, tid): Thread,
    record: &FaultRecord,
) -> bool {
    pid == tid
        && threads
            .range((pid, 0)..=(pid, u32::MAX))
            .filter(|(other, _)| **other != (pid, tid))
            .filter_map(|(_, records)| records.last())
            .any(|last| {
                last.time_ns <= record.time_ns
                    && matches!(step(last, record), (0, 0) | (1, 0) | (0, 1))
            })
}

/// Checks that exactly the faults of the truth were recorded at the addresses that it covers, in their
/// order, nothing missing and nothing twice; and that the instruction pointers are the program's.
pub fn matches(truth: &Truth, recording: &Recording) {
    assert!(
        !truth.faults.is_empty(),
        "the program reported no faults: nothing was tested"
    );
    let mut expected = BTreeMap::<Thread, Vec<&Fault>>::new();
    for fault in &truth.faults {
        expected
            .entry((fault.pid, fault.tid))
            .or_default()
            .push(fault);
    }
    let mut regions = HashMap::<u32, Vec<_>>::new();
    for (pid, range) in &truth.regions {
        regions.entry(*pid).or_default().push(range.clone());
    }
    let covered = |record: &FaultRecord| {
        regions
            .get(&record.pid())
            .is_some_and(|ranges| ranges.iter().any(|range| range.contains(&record.address())))
    };
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let threads = by_thread(recording);
    for &thread in threads.keys() {
        let faults: Vec<FaultRecord> = completed(&threads, thread)
            .into_iter()
            .filter(covered)
            .collect();
        seen.insert(thread);
        let wanted = expected.get(&thread).map_or(&[][..], |list| list);
        compare(thread, wanted, &faults, &mut problems);
        instruction_pointers(truth, &faults, &mut problems);
    }
    let unseen: Vec<_> = expected.keys().filter(|key| !seen.contains(*key)).collect();
    if !unseen.is_empty() {
        problems.push(format!(
            "{} of {} threads were not seen at all, among them (process, thread) {:?}",
            unseen.len(),
            expected.len(),
            &unseen[..unseen.len().min(SHOWN)]
        ));
    }
    assert!(
        problems.is_empty(),
        "{} differences from what the program did ({} faults reported, {} records):\n{}",
        problems.len(),
        truth.faults.len(),
        recording.len(),
        problems[..problems.len().min(SHOWN)].join("\n")
    );
}

fn compare(
    (pid, tid): Thread,
    wanted: &[&Fault],
    faults: &[FaultRecord],
    problems: &mut Vec<String>,
) {
    for (i, record) in faults.iter().enumerate() {
        let got = Fault::from(record);
        match wanted.get(i) {
            Some(fault) if fault.is(&got) => {}
            Some(fault) => {
                problems.push(format!(
                    "process {pid} thread {tid}, fault {i} of {}: expected {:#x} {} {}, recorded {:#x} {} {}",
                    wanted.len(),
                    fault.address,
                    fault.access,
                    fault.flags,
                    got.address,
                    got.access,
                    got.flags
                ));
                // Those behind it are out of step.
                return;
            }
            None => {
                problems.push(format!(
                    "process {pid} thread {tid}: {} faults recorded, {} expected; the first too many is {:#x} {} {}",
                    faults.len(),
                    wanted.len(),
                    got.address,
                    got.access,
                    got.flags
                ));
                return;
            }
        }
    }
    if faults.len() < wanted.len() {
        problems.push(format!(
            "process {pid} thread {tid}: {} faults recorded, {} expected; the first missing is {:#x}",
            faults.len(),
            wanted.len(),
            wanted[faults.len()].address
        ));
    }
}

fn instruction_pointers(truth: &Truth, faults: &[FaultRecord], problems: &mut Vec<String>) {
    if truth.text.is_empty() {
        return;
    }
    for record in faults {
        let flags = record.flags();
        let right = if flags & fault_flag::INSTRUCTION != 0 {
            record.ip() == record.address()
        } else if flags & fault_flag::USER != 0 {
            truth.text.iter().any(|range| range.contains(&record.ip()))
        } else {
            // In a system call: the C library's.
            record.ip() != 0
        };
        if !right {
            problems.push(format!(
                "the fault at {:#x} has instruction pointer {:#x}; the program's code is at {:x?}",
                record.address(),
                record.ip(),
                truth.text
            ));
            return;
        }
    }
}

/// The module records as ever.
///
/// # Panics
///
/// If it does not.
pub fn assert_sound() {
    let run = program::trace(Setup::default(), &["touch", "--pages", "100"]);
    run.recording.assert_complete();
    matches(&run.truth, &run.recording);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_uapi::{MAJ_FLT_SHIFT, MIN_FLT_SHIFT};

    fn record(address: u64, minor: u8, major: u8, flags: u64) -> FaultRecord {
        FaultRecord {
            header: 7 | 7 << 22 | flags << 44 | 1 << 63,
            time_ns: 0,
            address_counters: address
                | (u64::from(minor) & COUNTER_MASK) << MIN_FLT_SHIFT
                | (u64::from(major) & COUNTER_MASK) << MAJ_FLT_SHIFT,
            ip_mapping: 0,
        }
    }

    fn recording(records: Vec<FaultRecord>) -> Recording {
        Recording {
            cpus: vec![records],
            ..Recording::default()
        }
    }

    const TRUTH: &str =
        "region 7 1000 3000\nfault 7 7 1000 w user zero-fill\nfault 7 7 2000 w user zero-fill\n";
    const WRITE: u64 = fault_flag::WRITE | fault_flag::USER;

    #[test]
    fn an_attempt_made_again_counts_once() {
        let records = vec![
            record(0x1000, 255, 3, WRITE | fault_flag::VMA_LOCK),
            record(0x1000, 255, 3, WRITE),
            record(0x9000, 0, 3, WRITE),
            record(0x2000, 0, 4, WRITE),
        ];
        matches(&TRUTH.parse().unwrap(), &recording(records));
    }

    #[test]
    #[should_panic(expected = "faults are missing")]
    fn a_gap_in_the_counters_is_found() {
        let records = vec![record(0x1000, 0, 0, WRITE), record(0x2000, 2, 0, WRITE)];
        completed(&BTreeMap::from([((7, 7), records)]), (7, 7));
    }

    #[test]
    #[should_panic(expected = "the first missing is 0x2000")]
    fn a_missing_fault_is_found() {
        matches(
            &TRUTH.parse().unwrap(),
            &recording(vec![record(0x1000, 0, 0, WRITE)]),
        );
    }

    #[test]
    #[should_panic(expected = "the first too many is 0x1000")]
    fn a_fault_too_many_is_found() {
        matches(
            &TRUTH.parse().unwrap(),
            &recording(vec![
                record(0x1000, 0, 0, WRITE),
                record(0x2000, 1, 0, WRITE),
                record(0x1000, 2, 0, WRITE),
            ]),
        );
    }

    #[test]
    #[should_panic(expected = "expected 0x2000 w user, recorded 0x2000 w present,user")]
    fn a_wrong_flag_is_found() {
        matches(
            &TRUTH.parse().unwrap(),
            &recording(vec![
                record(0x1000, 0, 0, WRITE),
                record(0x2000, 1, 0, WRITE | fault_flag::PRESENT),
            ]),
        );
    }
}
