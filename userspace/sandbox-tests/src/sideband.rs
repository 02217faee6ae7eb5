// SPDX-License-Identifier: GPL-2.0-only

//! The records beside the faults: taken apart, put together with the faults, and added up.

use std::collections::{BTreeMap, HashMap};

use fault_tracer_uapi::{
    self as uapi, mapping_flag, record_type, session_flag, task_event, CpuCounters, FaultRecord,
    COUNTER_MASK, MAPPINGS, MAPPING_UNKNOWN, PID_MASK,
};

use crate::device::Session;

/// Words of a slot.
const SLOT_WORDS: usize = uapi::SLOT_BYTES / 8;

/// A `MAPPING` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Process that faulted.
    pub pid: u32,
    /// Time of the fault that it precedes.
    pub time_ns: u64,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Inode number.
    pub inode: u64,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Its number.
    pub number: u16,
    /// See [`mapping_flag`].
    pub flags: u32,
    /// Its name.
    pub path: String,
    /// More of its file, of code.
    pub file: Option<MappedFile>,
}

/// What follows the path of a `MAPPING` record of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The inode's generation.
    pub generation: u32,
    /// The build id in hexadecimal digits, empty without one; `None` if it is not reported.
    pub build_id: Option<String>,
}

impl Mapping {
    /// Its rights as `/proc/PID/maps` writes them.
    pub fn rights(&self) -> String {
        let letter = |flag, yes, no| if self.flags & flag != 0 { yes } else { no };
        [
            letter(mapping_flag::READ, 'r', '-'),
            letter(mapping_flag::WRITE, 'w', '-'),
            letter(mapping_flag::EXEC, 'x', '-'),
            letter(mapping_flag::SHARED, 's', 'p'),
        ]
        .iter()
        .collect()
    }
}

/// A `TASK` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Time.
    pub time_ns: u64,
    /// See [`task_event`].
    pub event: u32,
    /// Process id of the parent.
    pub parent: u32,
    /// Name.
    pub comm: String,
    /// Minor and major faults so far.
    pub counters: (u64, u64),
    /// Of an execution, the thread id before; of a fork, the process that made it.
    pub from_id: u32,
    /// Program.
    pub path: String,
}

/// An `EXIT` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Time.
    pub time_ns: u64,
    /// Minor and major faults.
    pub counters: (u64, u64),
}

/// A `LOST` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Time of the first.
    pub time_ns: u64,
    /// Time of the last.
    pub last_ns: u64,
    /// How many.
    pub count: u64,
}

/// Any record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A fault.
    Fault(FaultRecord),
    /// A mapping.
    Mapping(Mapping),
    /// A beginning, an executed program or a new name.
    Task(Task),
    /// An end.
    Exit(Exit),
    /// Losses.
    Lost(Lost),
}

impl Record {
    /// Its time.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Fault(fault) => fault.time_ns,
            Self::Mapping(mapping) => mapping.time_ns,
            Self::Task(task) => task.time_ns,
            Self::Exit(exit) => exit.time_ns,
            Self::Lost(lost) => lost.time_ns,
        }
    }

    /// The time up to which it tells: another one than [`Record::time_ns`] for losses alone.
    pub fn last_ns(&self) -> u64 {
        match self {
            Self::Lost(lost) => lost.last_ns,
            other => other.time_ns(),
        }
    }
}

/// Takes words apart: whole records, nothing else.
pub fn parse(words: &[u64]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut rest = words;
    while let Some(&header) = rest.first() {
        let length = uapi::header_slots(header) as usize * SLOT_WORDS;
        assert!(
            length != 0 && length <= rest.len(),
            "a record of {length} words, and {} are left: {header:#x}",
            rest.len()
        );
        let (record, behind) = rest.split_at(length);
        records.extend(one(record));
        rest = behind;
    }
    records
}

/// Takes a record apart; `None` for a filler.
fn one(words: &[u64]) -> Option<Record> {
    let header = words[0];
    let (tid, pid) = (
        (header & PID_MASK) as u32,
        (header >> uapi::HEADER_TGID_SHIFT & PID_MASK) as u32,
    );
    Some(match uapi::header_type(header) {
        record_type::PAD => return None,
        record_type::FAULT => Record::Fault(FaultRecord::from_words(words.try_into().unwrap())),
        record_type::MAPPING => {
            let path_bytes = (words[7] >> 16 & 0xffff) as usize;
            let flags = (words[7] >> 32) as u32;
            let has_file = flags & mapping_flag::IDENTITY != 0;
            let code = mapping_flag::EXEC | mapping_flag::FILE;
            assert_eq!(has_file, flags & code == code, "{words:x?}");
            let file_words = if has_file { 2 * SLOT_WORDS } else { 0 };
            let (words, file) = words.split_at(words.len() - file_words);
            Record::Mapping(Mapping {
                pid,
                time_ns: words[1],
                start: words[2],
                end: words[3],
                offset: words[4],
                inode: words[5],
                device: ((words[6] >> 32) as u32, words[6] as u32),
                number: words[7] as u16,
                flags,
                path: path(words, path_bytes),
                file: has_file.then(|| mapped_file(flags, file)),
            })
        }
        record_type::TASK => Record::Task(Task {
            pid,
            tid,
            time_ns: words[1],
            parent: words[2] as u32,
            event: (words[2] >> 32) as u32,
            comm: comm(&words[3..5]),
            counters: (words[5], words[6]),
            from_id: (words[7] >> 32) as u32,
            path: path(words, words[7] as u32 as usize),
        }),
        record_type::EXIT => {
            assert_eq!(words.len(), SLOT_WORDS, "an EXIT record is one slot");
            Record::Exit(Exit {
                pid,
                tid,
                time_ns: words[1],
                counters: (words[2], words[3]),
            })
        }
        record_type::LOST => {
            assert_eq!(words.len(), SLOT_WORDS, "a LOST record is one slot");
            assert_eq!((tid, pid), (0, 0), "the ids of a LOST record");
            Record::Lost(Lost {
                time_ns: words[1],
                last_ns: words[2],
                count: words[3],
            })
        }
        other => panic!("a record of unknown type {other}: {words:x?}"),
    })
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The path behind the fixed part, whose length is as short as it can be and whose rest is zeros.
fn path(words: &[u64], length: usize) -> String {
    let tail = bytes(&words[2 * SLOT_WORDS..]);
    assert_eq!(
        tail.len(),
        length.next_multiple_of(uapi::SLOT_BYTES),
        "bytes behind the fixed part of a record with a path of {length} bytes"
    );
    assert!(
        tail[length..].iter().all(|byte| *byte == 0),
        "behind a path: {:x?}",
        &tail[length..]
    );
    String::from_utf8(tail[..length].to_vec()).expect("the tests use paths of text alone")
}

fn mapped_file(flags: u32, words: &[u64]) -> MappedFile {
    let length = (words[0] >> 32) as usize;
    let id = bytes(&words[1..5]);
    let (id, behind) = id.split_at(length);
    assert!(
        behind.iter().all(|byte| *byte == 0),
        "behind a build id: {behind:x?}"
    );
    assert_eq!(words[6..], [0, 0], "the reserved words");
    let is_known = flags & mapping_flag::BUILD_ID != 0;
    assert!(is_known || length == 0, "{words:x?}");
    MappedFile {
        generation: words[0] as u32,
        build_id: is_known.then(|| id.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

fn comm(words: &[u64]) -> String {
    let bytes = bytes(words);
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .expect("a name is ended by a zero byte");
    String::from_utf8(bytes[..end].to_vec()).expect("the tests use names of text alone")
}

/// A configuration with records beside the faults and rings so large that nothing is lost.
pub fn config() -> uapi::Config {
    uapi::Config {
        ring_bytes: 16 << 20,
        flags: session_flag::FOLLOW | session_flag::SIDEBAND,
        ..uapi::Config::default()
    }
}

/// All that a session has recorded.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The records of each CPU, in the order of its ring.
    pub cpus: Vec<Vec<Record>>,
    /// The account of each CPU.
    pub accounts: Vec<CpuCounters>,
    /// Faults that the probe missed.
    pub missed: u64,
}

impl Trace {
    /// Stops a session and takes out what it has recorded, behind the words that were drained `before`.
    /// Checks the account and the order of times.
    pub fn finish(session: &Session, before: &[Vec<u64>]) -> Self {
        session.stop().expect("the session does not stop");
        let (words, accounts, missed) = session.take_behind(before, Session::drain_words);
        let trace = Self {
            cpus: words.iter().map(|words| parse(words)).collect(),
            accounts,
            missed,
        };
        trace.assert_sound();
        trace
    }

    fn assert_sound(&self) {
        for (cpu, (records, account)) in self.cpus.iter().zip(&self.accounts).enumerate() {
            assert_eq!(
                account.hits,
                account.recorded + account.dropped + account.overwritten,
                "CPU {cpu}: the account does not balance: {account:?}"
            );
            let faults = records
                .iter()
                .filter(|record| matches!(record, Record::Fault(_)))
                .count();
            assert_eq!(
                faults as u64, account.recorded,
                "CPU {cpu}: faults delivered, and those in the account: {account:?}"
            );
            for record in records {
                if let Record::Task(task) = record {
                    let own = match task.event {
                        task_event::FORK => task.pid,
                        _ => task.tid,
                    };
                    // A process is made by another, a thread by its process; and an execution takes over an id.
                    let other = task.event == task_event::EXEC
                        || task.event == task_event::FORK && task.tid == task.pid;
                    assert!(other || task.from_id == own, "CPU {cpu}: {task:?}");
                }
            }
            // A loss stands where the faults go on, perhaps behind tasks that came after it.
            let (losses, others): (Vec<_>, Vec<_>) = records
                .iter()
                .partition(|record| matches!(record, Record::Lost(_)));
            let faults = records
                .iter()
                .filter(|record| matches!(record, Record::Lost(_) | Record::Fault(_)));
            for line in [others, faults.collect()] {
                for pair in line.windows(2) {
                    assert!(
                        pair[0].last_ns() <= pair[1].time_ns(),
                        "CPU {cpu}: time goes back between {:?} and {:?}",
                        pair[0],
                        pair[1]
                    );
                }
            }
            let reported: u64 = losses
                .iter()
                .map(|record| match record {
                    Record::Lost(lost) => lost.count,
                    _ => 0,
                })
                .sum();
            let sideband = records
                .iter()
                .any(|record| !matches!(record, Record::Fault(_)));
            if sideband {
                assert_eq!(
                    reported, account.dropped,
                    "CPU {cpu}: losses reported, and those in the account: {account:?}"
                );
            }
        }
    }

    /// Checks that nothing was lost.
    pub fn assert_complete(&self) {
        assert_eq!(self.missed, 0, "faults were missed");
        for account in &self.accounts {
            assert_eq!(
                (account.dropped, account.overwritten),
                (0, 0),
                "faults were lost: {account:?}"
            );
        }
        assert!(
            !self
                .cpus
                .iter()
                .flatten()
                .any(|record| matches!(record, Record::Lost(_))),
            "losses are reported, and there are none"
        );
    }

    /// All records by their times; those of one CPU in their order.
    pub fn in_time_order(&self) -> Vec<&Record> {
        let mut records: Vec<&Record> = self.cpus.iter().flatten().collect();
        records.sort_by_key(|record| record.time_ns());
        records
    }

    /// All `TASK` records by their times.
    pub fn tasks(&self) -> Vec<&Task> {
        self.in_time_order()
            .into_iter()
            .filter_map(|record| match record {
                Record::Task(task) => Some(task),
                _ => None,
            })
            .collect()
    }

    /// All `EXIT` records by their times.
    pub fn exits(&self) -> Vec<&Exit> {
        self.in_time_order()
            .into_iter()
            .filter_map(|record| match record {
                Record::Exit(exit) => Some(exit),
                _ => None,
            })
            .collect()
    }

    /// Each CPU's faults with what the last mapping of their number on that CPU said; `None` if there was
    /// none before.
    pub fn resolved(&self) -> Vec<Vec<(FaultRecord, Option<&Mapping>)>> {
        self.cpus
            .iter()
            .map(|records| {
                let mut known: Vec<Option<&Mapping>> = vec![None; MAPPINGS];
                let mut faults = Vec::new();
                for record in records {
                    match record {
                        Record::Mapping(mapping) => {
                            assert_ne!(mapping.number, MAPPING_UNKNOWN, "{mapping:?}");
                            known[usize::from(mapping.number)] = Some(mapping);
                        }
                        Record::Fault(fault) => {
                            faults.push((*fault, known[usize::from(fault.mapping())]));
                        }
                        _ => {}
                    }
                }
                faults
            })
            .collect()
    }

    /// Checks that each fault's mapping is known, is one of its process, and holds its address.
    pub fn assert_resolved(&self) {
        for (cpu, faults) in self.resolved().iter().enumerate() {
            for (fault, mapping) in faults {
                let mapping = mapping.unwrap_or_else(|| {
                    panic!(
                        "CPU {cpu}: the mapping {} of the fault at {:#x} is not reported",
                        fault.mapping(),
                        fault.address()
                    )
                });
                assert_holds(mapping, fault);
            }
        }
    }

    /// The faults of a thread, in their order, with their mappings.
    pub fn by(&self, tid: u32) -> Vec<(FaultRecord, Option<&Mapping>)> {
        let faults = self.resolved().into_iter().flatten();
        let mut faults: Vec<_> = faults.filter(|(fault, _)| fault.tid() == tid).collect();
        faults.sort_by_key(|(fault, _)| fault.time_ns);
        faults
    }

    /// The faults of a thread that completed, in their order, with their mappings. What became of the last
    /// is not known; it counts as completed. The thread must have been traced all the time: of the counters,
    /// records have the low bits alone.
    pub fn completed_by(&self, tid: u32) -> Vec<(FaultRecord, Option<&Mapping>)> {
        let mut faults = self.by(tid);
        let next: Vec<FaultRecord> = faults.iter().skip(1).map(|(fault, _)| *fault).collect();
        let mut next = next.iter();
        faults.retain(|(fault, _)| {
            next.next()
                .is_none_or(|next| crate::check::step(fault, next) != (0, 0))
        });
        faults
    }
}

/// Checks that a fault is in its mapping.
#[track_caller]
pub fn assert_holds(mapping: &Mapping, fault: &FaultRecord) {
    assert!(
        mapping.pid == fault.pid()
            && (mapping.start..mapping.end).contains(&fault.address())
            && mapping.time_ns <= fault.time_ns,
        "the fault of process {} at {:#x}, {} ns, is said to lie in {mapping:x?}",
        fault.pid(),
        fault.address(),
        fault.time_ns
    );
}

/// A thread from its beginning to its end, whatever ids it had.
#[derive(Debug)]
struct Life {
    /// The ids that it has now.
    pid: u32,
    tid: u32,
    /// Its counters, as the last of its records shows them in full or lets them be known.
    counters: (u64, u64),
    /// Whether that record was a fault: then one of the counters may be one higher by now.
    open: bool,
    /// Faults that completed.
    completed: u64,
    ended: bool,
}

impl Life {
    /// What the counters may be at the next record.
    fn candidates(&self) -> Vec<(u64, u64)> {
        let (minor, major) = self.counters;
        if self.open {
            vec![(minor, major), (minor + 1, major), (minor, major + 1)]
        } else {
            vec![(minor, major)]
        }
    }

    fn advance(&mut self, to: (u64, u64), open: bool) {
        if to != self.counters {
            self.completed += 1;
        }
        self.counters = to;
        self.open = open;
    }

    fn fault(&mut self, fault: &FaultRecord) {
        let low = |counters: (u64, u64)| (counters.0 & COUNTER_MASK, counters.1 & COUNTER_MASK);
        let reported = (fault.min_flt_low().into(), fault.maj_flt_low().into());
        let next = self
            .candidates()
            .into_iter()
            .find(|may| low(*may) == reported);
        let next = next.unwrap_or_else(|| {
            panic!(
                "a fault is missing: before the one at {:#x} the low bits of the counters are {reported:?}, \
                 and they were {:?} (a fault since: {}) of {self:?}",
                fault.address(),
                self.counters,
                self.open
            )
        });
        self.advance(next, true);
    }

    /// A record that shows the counters in full.
    fn checkpoint(&mut self, counters: (u64, u64), what: &str) {
        assert!(
            self.candidates().contains(&counters),
            "at its {what} the counters are {counters:?}; by its faults they are one of {:?}: {self:?}",
            self.candidates()
        );
        self.advance(counters, false);
    }
}

/// What [`assert_balanced`] has added up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Threads from their beginning to their end.
    pub threads: u64,
    /// Their faults that completed.
    pub completed: u64,
    /// Threads that executed a program and thereby got another id.
    pub took_over: u64,
}

/// Checks, thread by thread, that the faults recorded are exactly those that the kernel counted between
/// the thread's beginning and its end; that each thread began before its first fault and ended after its
/// last; and that each ended once.
pub fn assert_balanced(trace: &Trace) -> Balance {
    trace.assert_complete();
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    // Faults under the id of a first thread that has ended: of the thread that is about to execute a
    // program in its place.
    let mut between: HashMap<u32, Vec<FaultRecord>> = HashMap::new();
    let mut balance = Balance::default();
    for record in trace.in_time_order() {
        match record {
            Record::Task(task) => match task.event {
                task_event::FORK | task_event::PRESENT => {
                    let before = lives.insert(
                        task.tid,
                        Life {
                            pid: task.pid,
                            tid: task.tid,
                            counters: task.counters,
                            open: false,
                            completed: 0,
                            ended: false,
                        },
                    );
                    if let Some(before) = before {
                        assert!(before.ended, "{task:?} begins, and there is {before:?}");
                        balance.completed += before.completed;
                    }
                    balance.threads += 1;
                }
                task_event::EXEC => {
                    if task.from_id != task.tid {
                        balance.took_over += 1;
                        let leader = lives.remove(&task.tid).expect("the first thread is known");
                        assert!(leader.ended, "{task:?} in place of {leader:?}");
                        balance.completed += leader.completed;
                        let mut life = lives.remove(&task.from_id).unwrap_or_else(|| {
                            panic!("an unknown thread executes a program: {task:?}")
                        });
                        life.tid = task.tid;
                        for fault in between.remove(&task.tid).unwrap_or_default() {
                            life.fault(&fault);
                        }
                        lives.insert(task.tid, life);
                    }
                    let life = lives.get_mut(&task.tid).unwrap_or_else(|| {
                        panic!("an unknown thread executes a program: {task:?}")
                    });
                    assert!(!life.ended, "{task:?} of {life:?}");
                    life.checkpoint(task.counters, "execution of a program");
                }
                _ => assert!(
                    lives.contains_key(&task.tid),
                    "an unknown thread has a new name: {task:?}"
                ),
            },
            Record::Fault(fault) => {
                let life = lives.get_mut(&fault.tid()).unwrap_or_else(|| {
                    panic!("a fault of a thread that has not begun: {fault:x?}")
                });
                assert_eq!(life.pid, fault.pid(), "{life:?}");
                if life.ended {
                    assert_eq!(
                        fault.tid(),
                        fault.pid(),
                        "a fault after the end of {life:?}"
                    );
                    between.entry(fault.tid()).or_default().push(*fault);
                } else {
                    life.fault(fault);
                }
            }
            Record::Exit(exit) => {
                let life = lives
                    .get_mut(&exit.tid)
                    .unwrap_or_else(|| panic!("an unknown thread ends: {exit:?}"));
                assert!(!life.ended, "it ends twice: {life:?}");
                assert_eq!(life.pid, exit.pid, "{life:?}");
                life.checkpoint(exit.counters, "end");
                life.ended = true;
            }
            Record::Mapping(_) | Record::Lost(_) => {}
        }
    }
    let open: Vec<&Life> = lives.values().filter(|life| !life.ended).collect();
    assert!(open.is_empty(), "threads without an end: {open:?}");
    assert!(between.is_empty(), "faults after the end: {between:x?}");
    balance.completed += lives.values().map(|life| life.completed).sum::<u64>();
    balance
}
