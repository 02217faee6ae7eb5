// SPDX-License-Identifier: GPL-2.0-only

//! From records to rows: the mapping, the names, the kind and the fate of each fault.
//!
//! **Mapping.** A fault's number refers to the last mapping record of that number of the same CPU.
//!
//! **Code.** See [`crate::code`].
//!
//! **Callers.** See [`crate::stacks`].
//!
//! **Names.** Those of the task records, from their time on.
//!
//! **Fate.** Each fault carries how the low bits of its thread's two counters stood before it, and the
//! kernel raises one of them by one when a fault completes. So the thread's next record tells what became
//! of it, and a fault leaves only when that has come: rows of faults are in the order of their threads'
//! next records. A difference that one fault cannot explain is a [`GapRow`].
//!
//! **Attempts.** Where the next record goes on with a fault that did not complete, both are one fault.
//!
//! **Duration.** A thread takes one fault at a time, so a return belongs to its last one, if that is recorded.

use std::{collections::hash_map::Entry, sync::Arc};

use fault_tracer_client::{Exit, Lost, Mapping, Overrun, Record, Return, Task, TaskEvent};
use fault_tracer_trace::{
    permissions, Fate, Fault, GapRow, Kind, Loss, LostRow, Name, Place, ResolvedFault, Row,
    ThreadEvent, ThreadRow, ANONYMOUS,
};
use fault_tracer_uapi::{self as uapi, fault_flag, mapping_flag, FaultRecord};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    code::{Codes, LookAtFile},
    stacks::Stacks,
};

/// Pages are not smaller than this: attempts of one fault are of the same page.
const PAGE_SHIFT: u32 = 12;

/// When more names than this are kept, those that nothing refers to are forgotten.
const NAMES_MOST: usize = 1 << 16;

/// Bytes of the page that a fault of a kind has mapped, as its return tells them. Where memory is filled, all of a folio
/// is mapped at once; else the page alone.
fn page_bytes(kind: Kind, page: u32) -> Option<u64> {
    let (shift, folio_shift) = (page & 0xff, page >> 8 & 0xff);
    let shift = match kind {
        Kind::ZeroFill | Kind::SwapIn => shift.max(folio_shift),
        _ => shift,
    };
    // The module tells no other.
    (PAGE_SHIFT..48).contains(&shift).then(|| 1 << shift)
}

/// The NUMA node of that page, where it is known.
fn page_node(page: u32) -> Option<u32> {
    (page >> 16).checked_sub(1)
}

/// Resolves a session's records. They must come in order of time, those of a CPU in their order;
/// [`Record::Lost`] may come at any time.
#[derive(Debug, Default)]
pub struct Resolver {
    /// The mappings of each CPU, by number; none of a CPU that has reported none.
    cpus: Vec<Vec<Option<Mapped>>>,
    threads: FxHashMap<u32, Thread>,
    processes: FxHashMap<u32, Process>,
    /// Whether each attempt of a fault is a row of its own.
    attempts_apart: bool,
    /// Whether the records are a selection of the faults: then the counters say nothing of what lies between two of them,
    /// and returns alone tell what became of a fault.
    is_selection: bool,
    /// Of a snapshot of the newest records.
    snapshot: Option<Box<Snapshot>>,
    codes: Codes,
    stacks: Stacks,
    names: Names,
    /// Whether there are returns.
    returns: bool,
    stray_returns: u64,
    /// A row that was given back: the next fault has its memory and, where they are the same, its names.
    spare: Option<Box<ResolvedFault>>,
}

/// What is known at the end of a snapshot, and was so before as far as the records go back.
#[derive(Debug, Default)]
struct Snapshot {
    /// The names of the threads that are there at the end, and their processes.
    names: FxHashMap<u32, Name>,
    /// The programs of the processes that are there at the end.
    programs: FxHashMap<u32, Name>,
    /// Threads whose names change in the records, and processes whose programs do.
    renamed: FxHashSet<u32>,
    executed: FxHashSet<u32>,
    /// By CPU, the numbers of the mappings that are in the records.
    mapped: FxHashSet<(u32, u16)>,
    /// From here on, no CPU's records are overwritten.
    since_ns: u64,
}

impl Snapshot {
    /// The name of a thread at a time, if it had the one that it has at the end.
    fn name(&self, tid: u32, time_ns: u64) -> Option<&Name> {
        (time_ns >= self.since_ns && !self.renamed.contains(&tid))
            .then(|| self.names.get(&tid))
            .flatten()
    }

    /// Likewise the program of a process.
    fn program(&self, pid: u32, time_ns: u64) -> Option<&Name> {
        (time_ns >= self.since_ns && !self.executed.contains(&pid))
            .then(|| self.programs.get(&pid))
            .flatten()
    }
}

/// What faults need of a mapping.
#[derive(Debug)]
struct Mapped {
    name: Name,
    permissions: Name,
    /// What is to be subtracted from an address to get the offset in the file.
    base: Option<u64>,
}

#[derive(Debug, Default)]
struct Thread {
    name: Option<Name>,
    /// Its beginning was emitted. That it was present may be emitted more than once.
    begun: bool,
    /// The counters when the last record was written, as far as they are known.
    counters: Option<Counters>,
    /// The counters at its first record, if that did not tell of its beginning.
    first: Option<Counters>,
    /// It is traced no more, until its beginning is emitted again. What is recorded of it meanwhile says nothing of how
    /// its counters rise.
    has_left: bool,
    /// Time of the last record.
    time_ns: u64,
    /// The last fault, until its fate is known.
    held: Option<Held>,
}

/// What the rows of a process's faults say of it.
#[derive(Debug, Default)]
struct Process {
    /// Name of its first thread.
    name: Option<Name>,
    /// Path of its program.
    program: Option<Name>,
}

#[derive(Debug)]
struct Held {
    fault: Box<ResolvedFault>,
    /// Its last attempt.
    last: Fault,
    /// Whether it was given out as pending.
    reported: bool,
}

/// A thread's two counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    min: u64,
    maj: u64,
    /// Whether all bits are known, not only the low ones.
    full: bool,
}

impl Counters {
    fn low(record: &FaultRecord) -> Self {
        Self {
            min: record.min_flt_low().into(),
            maj: record.maj_flt_low().into(),
            full: false,
        }
    }

    fn full(min: u64, maj: u64) -> Self {
        Self {
            min,
            maj,
            full: true,
        }
    }

    /// How far they have risen until `next`: by as many bits as both know.
    fn risen(&self, next: &Self) -> (u64, u64) {
        let mask = if self.full && next.full {
            u64::MAX
        } else {
            uapi::COUNTER_MASK
        };
        (
            next.min.wrapping_sub(self.min) & mask,
            next.maj.wrapping_sub(self.maj) & mask,
        )
    }

    /// These, with the bits that only `full` knows: as near to it as can be.
    fn completed_by(&self, full: &Self) -> Self {
        if self.full {
            return *self;
        }
        let near = |low: u64, full: u64| {
            let above = low.wrapping_sub(full) & uapi::COUNTER_MASK;
            let below = uapi::COUNTER_MASK + 1 - above;
            if above < below {
                full.wrapping_add(above)
            } else {
                full.wrapping_sub(below)
            }
        };
        Self::full(near(self.min, full.min), near(self.maj, full.maj))
    }

    /// Whether both are known in full and differ by as little as the low bits can tell.
    fn is_near(&self, other: &Self) -> bool {
        self.min
            .abs_diff(other.min)
            .max(self.maj.abs_diff(other.maj))
            <= uapi::COUNTER_MASK / 2
    }

    /// Whether one of them is higher than `other`'s.
    fn is_ahead_of(&self, other: &Self) -> bool {
        self.min > other.min || self.maj > other.maj
    }

    /// `next`, with the bits that only `self` knows carried on.
    fn carried_to(&self, next: &Self) -> Self {
        if next.full || !self.full {
            return *next;
        }
        let (min, maj) = self.risen(next);
        Self::full(self.min.wrapping_add(min), self.maj.wrapping_add(maj))
    }
}

impl Resolver {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is known yet. Files that code is in are looked at by `look`.
    pub fn looking(look: Box<dyn LookAtFile>) -> Self {
        Self {
            codes: Codes::looking(look),
            ..Self::default()
        }
    }

    /// Makes each attempt of a fault a row of its own.
    pub fn keep_attempts_apart(&mut self) {
        self.attempts_apart = true;
    }

    /// Says that the records are a selection of the faults: no fault is missing because the counters rose by more, and the
    /// fate of a fault is known by its return alone.
    pub fn expect_selection(&mut self) {
        self.is_selection = true;
    }

    /// Says that the records are the newest of a recording that goes on, and which programs its processes execute now.
    pub fn expect_snapshot(&mut self, programs: impl IntoIterator<Item = (u32, String)>) {
        let programs = programs.into_iter();
        let programs = programs
            .map(|(pid, program)| (pid, self.names.of(&program)))
            .collect();
        self.snapshot = Some(Box::new(Snapshot {
            programs,
            ..Snapshot::default()
        }));
    }

    /// Sees a CPU's record that will be pushed in its turn, before any is.
    pub fn see_coming(&mut self, cpu: u32, record: &Record) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        match record {
            Record::Mapping(mapping) => {
                let is_first = snapshot.mapped.insert((cpu, mapping.number));
                if is_first && mapping.flags & mapping_flag::AGAIN != 0 {
                    // The faults before it are of this mapping, too.
                    self.mapping(cpu, mapping);
                }
            }
            Record::Overrun(overrun) => {
                snapshot.since_ns = snapshot.since_ns.max(overrun.until_ns);
            }
            Record::Task(task) if task.event == TaskEvent::Alive => {
                let name = self.names.of(&task.comm);
                snapshot.names.insert(task.tid, name);
            }
            Record::Task(task) => {
                snapshot.renamed.insert(task.tid);
                if matches!(
                    task.event,
                    TaskEvent::Exec | TaskEvent::Fork | TaskEvent::Present
                ) {
                    snapshot.executed.insert(task.pid);
                }
            }
            _ => {}
        }
    }

    /// Takes a mapping that a process had before the recording, and in which it may not fault any more. Its
    /// number means nothing.
    pub fn add_mapping(&mut self, mapping: &Mapping) {
        let name = self.names.of(called(&mapping.path));
        self.codes.listed(mapping, &name);
    }

    /// Takes the next record of a CPU, and adds the rows that come of it to `out`.
    pub fn push(&mut self, cpu: u32, record: Record, out: &mut Vec<Row>) {
        match record {
            Record::Fault(record) => self.fault(cpu, &record, out),
            Record::Mapping(mapping) => self.mapping(cpu, &mapping),
            Record::Task(task) => self.task(cpu, &task, out),
            Record::Exit(exit) => self.exit(cpu, &exit, out),
            Record::Return(end) => self.returned(&end),
            Record::Stack(stack) => self.stacks.push(cpu, stack),
            Record::Lost(Lost {
                first_ns,
                last_ns,
                count,
            }) => out.push(Row::Lost(LostRow {
                how: Loss::Dropped,
                cpu,
                time_ns: first_ns,
                end_ns: last_ns,
                count,
            })),
            Record::Overrun(Overrun {
                since_ns,
                until_ns,
                slots,
            }) => {
                // Mappings may have been emitted that are unknown now, and programs executed. A snapshot knows of none that
                // are not in it.
                if self.snapshot.is_none() {
                    if let Some(mappings) = self.cpus.get_mut(cpu as usize) {
                        mappings.clear();
                    }
                    self.codes.forget();
                }
                out.push(Row::Lost(LostRow {
                    how: Loss::Overwritten,
                    cpu,
                    time_ns: since_ns,
                    end_ns: until_ns,
                    count: slots,
                }));
            }
        }
    }

    /// Adds the faults that still wait for their fate to `out`, each once: a recording that is cut off has
    /// them nevertheless.
    pub fn pending(&mut self, out: &mut Vec<Row>) {
        for thread in self.threads.values_mut() {
            if let Some(held) = &mut thread.held {
                if !held.reported {
                    held.reported = true;
                    out.push(Row::Pending(held.fault.clone()));
                }
            }
        }
    }

    /// Adds the faults whose fate will not become known to `out`: nothing else comes.
    pub fn finish(&mut self, out: &mut Vec<Row>) {
        let held = self
            .threads
            .values_mut()
            .filter_map(|thread| thread.held.take());
        let mut rows: Vec<_> = held.map(|held| Row::Fault(held.fault)).collect();
        rows.sort_by_key(Row::time_ns);
        out.append(&mut rows);
    }

    /// Returns of faults that are not there. Always 0 if the records are true and none was overwritten.
    pub fn stray_returns(&self) -> u64 {
        self.stray_returns
    }

    fn fault(&mut self, cpu: u32, record: &FaultRecord, out: &mut Vec<Row>) {
        let fault = Fault::from_record(cpu, record);
        let mut resolved = self.spare.take().unwrap_or_default();
        self.find_place(cpu, record, &mut resolved.place);
        if let Some(reported) = self.codes.find(&fault, &mut resolved.code) {
            out.push(Row::Text(Box::new(reported)));
        }
        let stack = self.stacks.of(&fault, &mut self.codes, out);
        let before = Counters::low(record);
        let (thread, unknown) = match self.threads.entry(fault.tid) {
            Entry::Occupied(thread) => (thread.into_mut(), false),
            Entry::Vacant(place) => (place.insert(Thread::default()), true),
        };
        let joins = !self.attempts_apart;
        if thread.has_left || self.is_selection {
            thread.counters = None;
        }
        let counters = thread.advance(Some(&fault), &fault, &before, joins, out);
        thread.counters = Some(counters);
        thread.time_ns = fault.time_ns;
        if let Some(held) = &mut thread.held {
            held.attempt_again(&fault, &mut resolved);
            self.spare = Some(resolved);
            return;
        }
        thread.first = thread.first.or(unknown.then_some(before));
        let process = self.processes.get(&fault.pid);
        share(
            &mut resolved.process,
            process.and_then(|process| process.name.as_ref()),
        );
        share(
            &mut resolved.program,
            process.and_then(|process| process.program.as_ref()),
        );
        share(&mut resolved.thread, thread.name.as_ref());
        if let Some(snapshot) = &self.snapshot {
            let (pid, tid, time_ns) = (fault.pid, fault.tid, fault.time_ns);
            let name = |known: &mut Option<Name>, tid| {
                if known.is_none() {
                    *known = snapshot.name(tid, time_ns).cloned();
                }
            };
            name(&mut resolved.thread, tid);
            name(&mut resolved.process, pid);
            if resolved.program.is_none() {
                resolved.program = snapshot.program(pid, time_ns).cloned();
            }
        }
        let mapping = resolved.place.as_ref().map(|place| &*place.name);
        resolved.kind = Kind::of(fault.access, fault.flags, mapping);
        resolved.fate = Fate::Unknown;
        resolved.attempts = 1;
        resolved.returns = 0;
        resolved.duration_ns = None;
        resolved.page_bytes = None;
        resolved.page_node = None;
        resolved.stack = stack;
        resolved.fault = fault;
        thread.held = Some(Held {
            fault: resolved,
            last: fault,
            reported: false,
        });
    }

    /// Takes back a row that was used, whose memory the next fault can have.
    pub fn reuse(&mut self, row: Row) {
        if let Row::Fault(fault) = row {
            self.spare = Some(fault);
        }
    }

    fn returned(&mut self, end: &Return) {
        self.returns = true;
        let thread = self.threads.get_mut(&end.tid);
        match thread.and_then(|thread| thread.held.as_mut()) {
            Some(held) if held.last.time_ns == end.entry_ns => {
                let fault = &mut held.fault;
                fault.duration_ns = Some(end.time_ns.saturating_sub(fault.fault.time_ns));
                fault.returns += 1;
                fault.page_bytes = page_bytes(fault.kind, end.page);
                fault.page_node = page_node(end.page);
                if self.is_selection {
                    fault.fate = fate_of(u64::from(held.last.flags), end.result);
                }
            }
            _ => self.stray_returns += 1,
        }
    }

    /// Makes `place` that of a record.
    fn find_place(&self, cpu: u32, record: &FaultRecord, place: &mut Option<Place>) {
        let mappings = self.cpus.get(cpu as usize);
        let mapped = mappings.and_then(|all| all.get(usize::from(record.mapping())));
        let Some(Some(mapped)) = mapped else {
            *place = None;
            return;
        };
        let file_offset = mapped.base.map(|base| record.address().wrapping_sub(base));
        match place {
            Some(place)
                if Arc::ptr_eq(&place.name, &mapped.name)
                    && Arc::ptr_eq(&place.permissions, &mapped.permissions) =>
            {
                place.file_offset = file_offset;
            }
            other => {
                *other = Some(Place {
                    name: Arc::clone(&mapped.name),
                    permissions: Arc::clone(&mapped.permissions),
                    file_offset,
                });
            }
        }
    }

    fn mapping(&mut self, cpu: u32, mapping: &Mapping) {
        let name = self.names.of(called(&mapping.path));
        self.codes.mapping(mapping, &name);
        let mapped = Mapped {
            name,
            permissions: self.names.of(permissions(mapping.flags)),
            base: (mapping.flags & mapping_flag::FILE != 0)
                .then(|| mapping.start.wrapping_sub(mapping.offset)),
        };
        let cpu = cpu as usize;
        if self.cpus.len() <= cpu {
            self.cpus.resize_with(cpu + 1, Vec::new);
        }
        let mappings = &mut self.cpus[cpu];
        mappings.resize_with(uapi::MAPPINGS, || None);
        // The last number stands for mappings that nothing is known of.
        if let Some(place) =
            mappings[..usize::from(uapi::MAPPING_UNKNOWN)].get_mut(usize::from(mapping.number))
        {
            *place = Some(mapped);
        }
    }

    fn task(&mut self, cpu: u32, task: &Task, out: &mut Vec<Row>) {
        let name = self.names.of(&task.comm);
        let counters = Counters::full(task.min_flt, task.maj_flt);
        let event = match task.event {
            TaskEvent::Present => ThreadEvent::Present,
            TaskEvent::Fork => ThreadEvent::Fork,
            TaskEvent::Exec => ThreadEvent::Exec,
            TaskEvent::Rename => ThreadEvent::Rename,
            TaskEvent::Alive => ThreadEvent::Alive,
            TaskEvent::Left => ThreadEvent::Left,
        };
        let goes_on = matches!(task.event, TaskEvent::Alive | TaskEvent::Left);
        if goes_on && !self.threads.contains_key(&task.tid) {
            // It has ended just before, or nothing of it was recorded.
            return;
        }
        let end = |tid| Fault {
            time_ns: task.time_ns,
            cpu,
            pid: task.pid,
            tid,
            ..Fault::default()
        };
        if task.event == TaskEvent::Exec && task.from_id != task.tid {
            // It takes the place of its process's first thread, which has ended. It has the new id already
            // since its new name was emitted, some faults earlier.
            if let Some(mut old) = self.threads.remove(&task.from_id) {
                match self.threads.get(&task.tid).and_then(|new| new.first) {
                    Some(first) => {
                        old.advance(None, &end(task.from_id), &first, false, out);
                    }
                    None => {
                        if let Some(dead) = self.threads.insert(task.tid, old) {
                            out.extend(dead.held.map(|held| Row::Fault(held.fault)));
                        }
                    }
                }
            }
        }
        let returns_to_us = task.event == TaskEvent::Present
            && self.threads.get(&task.tid).is_some_and(|old| old.has_left);
        if task.event == TaskEvent::Fork || returns_to_us {
            // The end of an earlier thread of this id is lost, or it was not traced meanwhile.
            if let Some(old) = self.threads.remove(&task.tid) {
                out.extend(old.held.map(|held| Row::Fault(held.fault)));
            }
        }
        let begins = matches!(event, ThreadEvent::Present | ThreadEvent::Fork);
        let begun = self.threads.get(&task.tid).is_some_and(|old| old.begun);
        match event {
            ThreadEvent::Present if begun => {}
            ThreadEvent::Present => self.codes.begin(task.pid, task.tid, None),
            ThreadEvent::Fork => self.codes.begin(task.pid, task.tid, Some(task.from_id)),
            ThreadEvent::Exec => self.codes.exec(task.pid),
            ThreadEvent::Rename | ThreadEvent::Exit | ThreadEvent::Alive | ThreadEvent::Left => {}
        }
        let unknown = !self.threads.contains_key(&task.tid);
        let thread = self.threads.entry(task.tid).or_default();
        if unknown && task.event == TaskEvent::Rename {
            thread.first = Some(counters);
        }
        // While a return is to come, the fault is not over, whatever the counters say.
        let returns = |held: &Held| self.returns && held.fault.duration_ns.is_none();
        let inside = thread.held.as_ref().is_some_and(returns);
        // Another thread may tell of a name, of a target or of the end while this one is inside of a fault:
        // that its counters have not risen says nothing then. And they were read a little before the
        // record's time: those of the thread's own records may be ahead of them.
        let known = thread.counters.map(|known| known.completed_by(&counters));
        let advances = match (task.event, known) {
            (_, None) | (TaskEvent::Exec | TaskEvent::Fork, _) => true,
            // Its faults since the process became a target count, whatever of them is in these counters.
            (TaskEvent::Present, Some(known)) => !known.is_near(&counters),
            (TaskEvent::Rename, Some(_)) if inside => false,
            (TaskEvent::Rename | TaskEvent::Alive | TaskEvent::Left, Some(known)) => {
                !known.is_ahead_of(&counters) && (thread.held.is_none() || known != counters)
            }
        };
        let mut at_event = counters;
        if self.is_selection {
            thread.counters = None;
        }
        if advances {
            thread.advance(None, &end(task.tid), &counters, false, out);
            thread.counters = Some(counters);
            thread.time_ns = task.time_ns;
        } else if let Some(known) = known {
            thread.counters = Some(known);
            at_event = known;
        }
        thread.begun |= begins;
        thread.has_left |= task.event == TaskEvent::Left;
        thread.name = Some(Arc::clone(&name));
        // All other paths are as the process sees them.
        let inside = (task.event == TaskEvent::Present && !task.path.is_empty())
            .then(|| self.codes.seen_by(task.pid, &task.path))
            .flatten();
        let path = inside.as_ref().unwrap_or(&task.path);
        let program = (!path.is_empty()).then(|| self.names.of(path));
        self.describe_process(task, &name, program.as_ref());
        out.push(Row::Thread(Box::new(ThreadRow {
            event,
            time_ns: task.time_ns,
            cpu,
            pid: task.pid,
            tid: task.tid,
            process: self.process_name(task.pid),
            thread: Some(name),
            program,
            parent: Some(task.parent),
            old_tid: (task.event == TaskEvent::Exec).then_some(task.from_id),
            min_flt: at_event.min,
            maj_flt: at_event.maj,
        })));
    }

    fn exit(&mut self, cpu: u32, exit: &Exit, out: &mut Vec<Row>) {
        self.codes.end(exit.pid);
        let mut thread = self.threads.remove(&exit.tid).unwrap_or_default();
        let end = Fault {
            time_ns: exit.time_ns,
            cpu,
            pid: exit.pid,
            tid: exit.tid,
            ..Fault::default()
        };
        let counters = Counters::full(exit.min_flt, exit.maj_flt);
        if self.is_selection {
            thread.counters = None;
        }
        thread.advance(None, &end, &counters, false, out);
        out.push(Row::Thread(Box::new(ThreadRow {
            event: ThreadEvent::Exit,
            time_ns: exit.time_ns,
            cpu,
            pid: exit.pid,
            tid: exit.tid,
            process: self.process_name(exit.pid),
            thread: thread.name,
            program: None,
            parent: None,
            old_tid: None,
            min_flt: exit.min_flt,
            maj_flt: exit.maj_flt,
        })));
    }
}

impl Resolver {
    fn process_name(&self, pid: u32) -> Option<Name> {
        self.processes.get(&pid)?.name.clone()
    }

    /// Takes a process's name and program from a record of one of its threads.
    fn describe_process(&mut self, task: &Task, name: &Name, program: Option<&Name>) {
        let is_leader = task.tid == task.pid;
        // A new process executes the program of the one that made it.
        let inherited = (is_leader && task.event == TaskEvent::Fork)
            .then(|| self.processes.get(&task.from_id)?.program.clone())
            .flatten();
        let process = self.processes.entry(task.pid).or_default();
        if is_leader {
            process.name = Some(Arc::clone(name));
            if task.event == TaskEvent::Fork {
                process.program = inherited;
            }
        }
        if let Some(program) = program {
            process.program = Some(Arc::clone(program));
        }
    }
}

impl Held {
    /// Takes a further attempt of the fault, of which `found` has the mapping.
    fn attempt_again(&mut self, attempt: &Fault, found: &mut ResolvedFault) {
        let fault = &mut self.fault;
        fault.attempts = fault.attempts.saturating_add(1);
        fault.duration_ns = None;
        self.last = *attempt;
        if fault.place.is_none() && found.place.is_some() {
            fault.place = found.place.take();
            let mapping = fault.place.as_ref().map(|place| &*place.name);
            fault.kind = Kind::of(fault.fault.access, fault.fault.flags, mapping);
        }
        if fault.code.is_none() {
            fault.code = found.code.take();
        }
    }
}

impl Thread {
    /// Gives out the fault that was held, now that the thread's next record tells how the counters stand,
    /// and a gap where they have risen by more. `next` is that record if it is a fault, `end` when and
    /// where it was written. Returns the counters at the next record.
    ///
    /// With `joins`, a fault that `next` goes on with stays held.
    fn advance(
        &mut self,
        next: Option<&Fault>,
        end: &Fault,
        counters: &Counters,
        joins: bool,
        out: &mut Vec<Row>,
    ) -> Counters {
        let held = self.held.take();
        if let (None, Some(waiting), Some(next)) = (self.counters, &held, next) {
            // Of a selection of the faults.
            if joins && waiting.fault.fate == Fate::Retried && goes_on(&waiting.last, next) {
                self.held = held;
                return *counters;
            }
        }
        let Some(known) = self.counters else {
            // A thread whose beginning is not in the trace.
            out.extend(held.map(|held| Row::Fault(held.fault)));
            return *counters;
        };
        let risen = known.risen(counters);
        let (mut pid, mut tid) = (end.pid, end.tid);
        let mut gap = risen.0.saturating_add(risen.1);
        if let Some(held) = held {
            let goes_on = risen == (0, 0) && next.is_some_and(|next| goes_on(&held.last, next));
            if goes_on && joins {
                self.held = Some(held);
                return known.carried_to(counters);
            }
            let mut fault = held.fault;
            fault.fate = match risen {
                (1, 0) => Fate::Minor,
                (0, 1) => Fate::Major,
                (0, 0) if goes_on => Fate::Retried,
                (0, 0) => Fate::Failed,
                _ => Fate::Unknown,
            };
            gap = gap.saturating_sub(1);
            (pid, tid) = (fault.fault.pid, fault.fault.tid);
            out.push(Row::Fault(fault));
        }
        if gap != 0 {
            out.push(Row::Gap(GapRow {
                time_ns: self.time_ns,
                end_ns: end.time_ns,
                cpu: end.cpu,
                pid,
                tid,
                count: gap,
            }));
        }
        known.carried_to(counters)
    }
}

/// What became of an attempt that returned this, by its flags: what `mm_account_fault` of `mm/memory.c` counts.
fn fate_of(flags: u64, result: u32) -> Fate {
    use uapi::fault_result as is;
    const ERRORS: u32 = is::OOM | is::SIGBUS | is::SIGSEGV | is::HWPOISON | is::HWPOISON_LARGE;
    if result & is::RETRY != 0 {
        Fate::Retried
    } else if result & ERRORS != 0 {
        Fate::Failed
    } else if result & is::MAJOR != 0 || flags & fault_flag::TRIED != 0 {
        Fate::Major
    } else {
        Fate::Minor
    }
}

/// What a mapping of such a path is called.
fn called(path: &str) -> &str {
    match path {
        "" => ANONYMOUS,
        path => path,
    }
}

/// Makes `shared` the same name. Most faults are of the thread and the mapping of the one before, so that the
/// counts of references need not be touched.
fn share(shared: &mut Option<Name>, name: Option<&Name>) {
    match (&*shared, name) {
        (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
        (_, name) => *shared = name.cloned(),
    }
}

/// Whether a fault is a further attempt of the one before, which did not complete.
fn goes_on(before: &Fault, next: &Fault) -> bool {
    let is = |fault: &Fault, flag| u64::from(fault.flags) & flag != 0;
    before.address >> PAGE_SHIFT == next.address >> PAGE_SHIFT
        && (is(next, fault_flag::TRIED)
            || (is(before, fault_flag::VMA_LOCK) && !is(next, fault_flag::VMA_LOCK)))
}

/// One copy of each name.
#[derive(Debug, Default)]
struct Names(FxHashMap<Name, ()>);

impl Names {
    fn of(&mut self, name: &str) -> Name {
        if let Some((name, ())) = self.0.get_key_value(name) {
            return Arc::clone(name);
        }
        if self.0.len() >= NAMES_MOST {
            self.0.retain(|name, ()| Arc::strong_count(name) > 1);
        }
        let name: Name = name.into();
        self.0.insert(Arc::clone(&name), ());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TID: u32 = 70;

    fn fault(time_ns: u64, tid: u32, address: u64, flags: u64, min: u64, maj: u64) -> Record {
        in_mapping(
            time_ns,
            tid,
            address,
            flags,
            min,
            maj,
            uapi::MAPPING_UNKNOWN,
        )
    }

    fn in_mapping(
        time_ns: u64,
        tid: u32,
        address: u64,
        flags: u64,
        min: u64,
        maj: u64,
        number: u16,
    ) -> Record {
        let number = u64::from(number);
        Record::Fault(FaultRecord {
            header: u64::from(tid)
                | u64::from(TID) << uapi::HEADER_TGID_SHIFT
                | flags << uapi::HEADER_FLAGS_SHIFT
                | (number >> 8) << uapi::HEADER_MAPPING_SHIFT
                | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
            time_ns,
            address_counters: address
                | (min & uapi::COUNTER_MASK) << uapi::MIN_FLT_SHIFT
                | (maj & uapi::COUNTER_MASK) << uapi::MAJ_FLT_SHIFT,
            ip_mapping: (number & 0xff) << uapi::ADDRESS_BITS,
        })
    }

    fn task(time_ns: u64, tid: u32, event: TaskEvent, comm: &str, min: u64, maj: u64) -> Record {
        Record::Task(Box::new(Task {
            time_ns,
            tid,
            pid: TID,
            parent: 1,
            event,
            comm: comm.into(),
            path: String::new(),
            min_flt: min,
            maj_flt: maj,
            from_id: tid,
        }))
    }

    fn exit(time_ns: u64, tid: u32, min_flt: u64, maj_flt: u64) -> Record {
        Record::Exit(Exit {
            time_ns,
            tid,
            pid: TID,
            min_flt,
            maj_flt,
        })
    }

    fn mapping(number: u16, start: u64, offset: u64, flags: u32, path: &str) -> Record {
        Record::Mapping(Box::new(Mapping {
            time_ns: 0,
            tid: TID,
            pid: TID,
            number,
            start,
            end: start + 0x10000,
            offset,
            inode: 0,
            device: 0,
            flags,
            path: path.into(),
            file: None,
        }))
    }

    fn resolve(records: impl IntoIterator<Item = (u32, Record)>) -> Vec<Row> {
        resolve_with(Resolver::new(), records)
    }

    fn resolve_with(
        mut resolver: Resolver,
        records: impl IntoIterator<Item = (u32, Record)>,
    ) -> Vec<Row> {
        let mut out = Vec::new();
        for (cpu, record) in records {
            resolver.push(cpu, record, &mut out);
        }
        resolver.finish(&mut out);
        out
    }

    fn faults(rows: &[Row]) -> Vec<&ResolvedFault> {
        rows.iter()
            .filter_map(|row| match row {
                Row::Fault(fault) => Some(&**fault),
                _ => None,
            })
            .collect()
    }

    fn fates(rows: &[Row]) -> Vec<Fate> {
        faults(rows).iter().map(|fault| fault.fate).collect()
    }

    fn gaps(rows: &[Row]) -> Vec<u64> {
        let gap = |row: &Row| match row {
            Row::Gap(gap) => Some(gap.count),
            _ => None,
        };
        rows.iter().filter_map(gap).collect()
    }

    /// A thread was inside of a fault of the kernel's when the recording began, and what comes next is no fault.
    #[test]
    fn a_gap_before_a_task_is_that_threads() {
        let gaps_of = |records: Vec<Record>| -> Vec<_> {
            let mut resolver = Resolver::new();
            let mut rows = Vec::new();
            for record in records {
                resolver.push(0, record, &mut rows);
            }
            let gap = |row: &Row| match row {
                Row::Gap(gap) => Some((gap.pid, gap.tid, gap.count)),
                _ => None,
            };
            rows.iter().filter_map(gap).collect()
        };
        for event in [TaskEvent::Rename, TaskEvent::Exec, TaskEvent::Alive] {
            let present = task(1, TID, TaskEvent::Present, "x", 5, 0);
            let gaps = gaps_of(vec![present, task(2, TID, event, "y", 6, 0)]);
            assert_eq!(gaps, [(TID, TID, 1)], "{event:?}");
        }
        // Another thread than the first executes a program.
        let Record::Task(mut exec) = task(3, TID, TaskEvent::Exec, "y", 6, 0) else {
            unreachable!()
        };
        exec.from_id = TID + 1;
        let gaps = gaps_of(vec![
            task(1, TID + 1, TaskEvent::Present, "x", 5, 0),
            task(2, TID, TaskEvent::Rename, "y", 6, 0),
            Record::Task(exec),
        ]);
        assert_eq!(gaps, [(TID, TID + 1, 1)]);
    }

    #[test]
    fn a_process_is_forgotten_whose_thread_was_reported_twice() {
        let mut resolver = Resolver::new();
        let mut out = Vec::new();
        for event in [TaskEvent::Fork, TaskEvent::Present, TaskEvent::Present] {
            resolver.push(0, task(1, TID, event, "x", 0, 0), &mut out);
        }
        assert_eq!(resolver.codes.processes(), 1);
        resolver.push(0, exit(2, TID, 0, 0), &mut out);
        assert_eq!(resolver.codes.processes(), 0);
    }

    #[test]
    fn the_next_record_tells_the_fate() {
        let lock = fault_flag::VMA_LOCK;
        let records = || {
            let records = [
                task(0, TID, TaskEvent::Fork, "x", 0, 0),
                fault(1, TID, 0x1000, lock, 0, 0),
                fault(2, TID, 0x2000, lock, 1, 0),
                fault(3, TID, 0x2008, 0, 1, 0),
                fault(4, TID, 0x2008, fault_flag::TRIED, 1, 0),
                fault(5, TID, 0x3000, lock, 1, 1),
                fault(6, TID, 0x3000, lock, 1, 1),
                fault(7, TID, 0x4000, lock, 1, 1),
                exit(8, TID, 2, 1),
            ];
            records.map(|record| (0, record))
        };
        use Fate::{Failed, Major, Minor, Retried};
        let attempts = |rows: &[Row]| -> Vec<u32> {
            let fault = |row: &Row| match row {
                Row::Fault(fault) => Some(fault.attempts),
                _ => None,
            };
            rows.iter().filter_map(fault).collect()
        };
        let rows = resolve(records());
        assert_eq!(fates(&rows), [Minor, Major, Failed, Failed, Minor]);
        assert_eq!(attempts(&rows), [1, 3, 1, 1, 1]);
        assert!(gaps(&rows).is_empty());
        assert_eq!(rows.last().unwrap().event(), "exit");

        let mut apart = Resolver::new();
        apart.keep_attempts_apart();
        let rows = resolve_with(apart, records());
        assert_eq!(
            fates(&rows),
            [Minor, Retried, Retried, Major, Failed, Failed, Minor]
        );
        assert_eq!(attempts(&rows), [1; 7]);
    }

    #[test]
    fn the_page_of_a_fault_is_what_it_has_mapped() {
        // A page, a page in a folio of 64 KiB, a huge page; what is no size.
        assert_eq!(page_bytes(Kind::ZeroFill, 12), Some(4096));
        assert_eq!(page_bytes(Kind::ZeroFill, 12 | 3 << 16), Some(4096));
        assert_eq!(
            [12, 12 | 1 << 16, 12 | 3 << 16].map(page_node),
            [None, Some(0), Some(2)]
        );
        assert_eq!(page_bytes(Kind::ZeroFill, 12 | 16 << 8), Some(65536));
        assert_eq!(page_bytes(Kind::CopyOnWrite, 12 | 16 << 8), Some(4096));
        assert_eq!(page_bytes(Kind::ZeroFill, 21), Some(2 << 20));
        for unknown in [0, 3, 0xff, 16 << 8] {
            assert_eq!(page_bytes(Kind::FileRead, unknown), None);
        }
        let back = |time_ns, entry_ns, page| {
            Record::Return(Return {
                time_ns,
                tid: TID,
                pid: TID,
                entry_ns,
                result: 0,
                page,
            })
        };
        let records = [
            task(0, TID, TaskEvent::Fork, "x", 0, 0),
            // Its first attempt gave up the lock.
            fault(10, TID, 0x2000, fault_flag::VMA_LOCK, 0, 0),
            back(20, 10, 0),
            fault(30, TID, 0x2000, fault_flag::TRIED, 0, 0),
            back(40, 30, 21),
            fault(50, TID, 0x400_000, fault_flag::VMA_LOCK, 1, 0),
            exit(60, TID, 2, 0),
        ];
        let rows = resolve(records.map(|record| (0, record)));
        let sizes: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Fault(fault) => Some(fault.page_bytes),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [Some(2 << 20), None]);
    }

    #[test]
    fn the_time_of_a_fault_is_that_of_all_its_attempts() {
        let back = |time_ns, entry_ns| {
            Record::Return(Return {
                time_ns,
                tid: TID,
                pid: TID,
                entry_ns,
                result: 0,
                page: 0,
            })
        };
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Fork, "x", 0, 0),
                fault(10, TID, 0x2000, fault_flag::VMA_LOCK, 0, 0),
                back(500, 10),
                fault(510, TID, 0x2000, fault_flag::TRIED, 0, 0),
                back(520, 510),
                // The return of an attempt is missing: it was not that of the last one.
                fault(600, TID, 0x3000, fault_flag::VMA_LOCK, 0, 1),
                fault(700, TID, 0x3000, fault_flag::TRIED, 0, 1),
                back(730, 700),
                fault(800, TID, 0x4000, fault_flag::VMA_LOCK, 1, 1),
                back(810, 800),
                fault(820, TID, 0x4000, fault_flag::TRIED, 1, 1),
                exit(900, TID, 2, 1),
            ]
            .map(|record| (0, record)),
        );
        let times: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Fault(fault) => Some((fault.attempts, fault.returns, fault.duration_ns)),
                _ => None,
            })
            .collect();
        assert_eq!(times, [(2, 2, Some(510)), (2, 1, Some(130)), (2, 1, None)]);
    }

    /// While rules do not hold for its process, a thread's counters rise without records.
    #[test]
    fn a_thread_that_left_and_comes_back_begins_anew() {
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Present, "x", 10, 0),
                fault(10, TID, 0x2000, 0, 10, 0),
                task(20, TID, TaskEvent::Left, "x", 11, 0),
                // Was under way to the hook when it left.
                fault(21, TID, 0x3000, 0, 11, 0),
                // It is traced again, and faults before another thread tells of it.
                fault(900, TID, 0x4000, 0, 49, 3),
                task(910, TID, TaskEvent::Present, "x", 50, 3),
                fault(920, TID, 0x5000, 0, 50, 3),
                exit(930, TID, 51, 3),
            ]
            .map(|record| (0, record)),
        );
        assert!(gaps(&rows).is_empty(), "{rows:?}");
        let unknown = Fate::Unknown;
        assert_eq!(fates(&rows), [Fate::Minor, unknown, unknown, Fate::Minor]);
    }

    #[test]
    fn of_a_selection_returns_alone_tell_the_fates() {
        let back = |time_ns, entry_ns, result| {
            Record::Return(Return {
                time_ns,
                tid: TID,
                pid: TID,
                entry_ns,
                result,
                page: 0,
            })
        };
        let mut resolver = Resolver::new();
        resolver.expect_selection();
        let rows = resolve_with(
            resolver,
            [
                task(0, TID, TaskEvent::Fork, "x", 0, 0),
                fault(10, TID, 0x2000, 0, 3, 0),
                back(11, 10, 0),
                fault(20, TID, 0x3000, 0, 9, 0),
                back(21, 20, uapi::fault_result::MAJOR),
                fault(30, TID, 0x4000, fault_flag::VMA_LOCK, 4, 2),
                back(31, 30, uapi::fault_result::RETRY),
                fault(32, TID, 0x4000, fault_flag::TRIED, 4, 2),
                back(33, 32, 0),
                fault(40, TID, 0x5000, 0, 7, 7),
                back(41, 40, uapi::fault_result::SIGBUS),
                fault(50, TID, 0x6000, 0, 8, 8),
                exit(60, TID, 100, 50),
            ]
            .map(|record| (0, record)),
        );
        assert!(gaps(&rows).is_empty(), "{rows:?}");
        use Fate::{Failed, Major, Minor, Unknown};
        assert_eq!(fates(&rows), [Minor, Major, Major, Failed, Unknown]);
        assert_eq!(faults(&rows)[2].attempts, 2);
    }

    #[test]
    fn a_snapshot_has_the_names_of_its_end_as_far_back_as_they_are_known() {
        let again = mapping_flag::READ | mapping_flag::AGAIN;
        let records = [
            (
                0,
                Record::Overrun(Overrun {
                    since_ns: 0,
                    until_ns: 15,
                    slots: 9,
                }),
            ),
            (0, in_mapping(10, TID, 0x10000, 0, 0, 0, 7)),
            (0, in_mapping(20, TID, 0x10000, 0, 1, 0, 7)),
            (0, in_mapping(25, TID, 0x10000, 0, 2, 0, 8)),
            (0, mapping(7, 0x10000, 0, again, "/a")),
            (0, mapping(8, 0x10000, 0, mapping_flag::READ, "/b")),
            (0, in_mapping(30, TID, 0x10000, 0, 3, 0, 8)),
            (0, fault(40, 71, 0x10000, 0, 0, 0)),
            (0, task(50, 71, TaskEvent::Rename, "new", 1, 0)),
            (0, fault(60, 71, 0x10000, 0, 1, 0)),
            (0, task(90, TID, TaskEvent::Alive, "one", 4, 0)),
            (0, task(90, 71, TaskEvent::Alive, "new", 2, 0)),
        ];
        let mut resolver = Resolver::new();
        resolver.expect_snapshot([(TID, "/bin/one".to_owned())]);
        for (cpu, record) in &records {
            resolver.see_coming(*cpu, record);
        }
        let rows = resolve_with(resolver, records);
        let mut found: Vec<_> = faults(&rows)
            .iter()
            .map(|fault| {
                (
                    fault.fault.time_ns,
                    fault.thread.as_deref().unwrap_or("?").to_owned(),
                    fault.program.as_deref().unwrap_or("?").to_owned(),
                    fault
                        .place
                        .as_ref()
                        .map_or("?".to_owned(), |place| place.name.to_string()),
                )
            })
            .collect();
        found.sort();
        let row = |time_ns, thread: &str, program: &str, place: &str| {
            (
                time_ns,
                thread.to_owned(),
                program.to_owned(),
                place.to_owned(),
            )
        };
        let expected = [
            // Another CPU may have told of a new name before that.
            row(10, "?", "?", "/a"),
            row(20, "one", "/bin/one", "/a"),
            // What the number meant before is not told.
            row(25, "one", "/bin/one", "?"),
            row(30, "one", "/bin/one", "/b"),
            // What it was called before is not known.
            row(40, "?", "/bin/one", "?"),
            row(60, "new", "/bin/one", "?"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fault_bears_the_program_of_its_process() {
        let with_path = |record, path: &str| match record {
            Record::Task(task) => Record::Task(Box::new(Task {
                path: path.into(),
                ..*task
            })),
            other => other,
        };
        let child = |record| match record {
            Record::Task(task) => Record::Task(Box::new(Task {
                pid: 80,
                from_id: TID,
                ..*task
            })),
            other => other,
        };
        let of = |pid: u32, time_ns| {
            let Record::Fault(record) = fault(time_ns, pid, 0x1000 * time_ns, 0, 0, 0) else {
                unreachable!();
            };
            Record::Fault(FaultRecord {
                header: record.header & !(u64::from(TID) << uapi::HEADER_TGID_SHIFT)
                    | u64::from(pid) << uapi::HEADER_TGID_SHIFT,
                ..record
            })
        };
        let rows = resolve(
            [
                with_path(task(0, TID, TaskEvent::Present, "x", 0, 0), "/bin/x"),
                of(TID, 1),
                child(task(2, 80, TaskEvent::Fork, "x", 0, 0)),
                of(80, 3),
                with_path(child(task(4, 80, TaskEvent::Exec, "y", 0, 0)), "/bin/y"),
                of(80, 5),
                of(TID, 6),
            ]
            .map(|record| (0, record)),
        );
        let mut programs: Vec<_> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Fault(fault) => Some((fault.fault.time_ns, fault.program.as_deref())),
                _ => None,
            })
            .collect();
        programs.sort_unstable();
        assert_eq!(
            programs,
            [
                (1, Some("/bin/x")),
                (3, Some("/bin/x")),
                (5, Some("/bin/y")),
                (6, Some("/bin/x"))
            ]
        );
    }

    #[test]
    fn low_bits_wrap_around() {
        let mut records = vec![task(0, TID, TaskEvent::Fork, "x", 0, 0)];
        records.extend((0..100).map(|n| fault(n + 1, TID, 0x1000 * n, 0, n / 2, n.div_ceil(2))));
        records.push(exit(200, TID, 50, 50));
        let rows = resolve(records.into_iter().map(|record| (0, record)));
        assert!(gaps(&rows).is_empty());
        let major = fates(&rows)
            .iter()
            .filter(|&&fate| fate == Fate::Major)
            .count();
        let minor = fates(&rows)
            .iter()
            .filter(|&&fate| fate == Fate::Minor)
            .count();
        assert_eq!((minor, major), (50, 50));
    }

    #[test]
    fn missing_faults_are_a_gap() {
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Fork, "x", 0, 0),
                fault(1, TID, 0x1000, 0, 0, 0),
                fault(2, TID, 0x2000, 0, 5, 0),
                exit(3, TID, 39, 1),
            ]
            .map(|record| (0, record)),
        );
        assert_eq!(fates(&rows), [Fate::Unknown, Fate::Unknown]);
        // Four between the faults; 34 and one major behind the second, which is one of them.
        assert_eq!(gaps(&rows), [4, 34]);
    }

    #[test]
    fn a_fault_that_was_under_way_at_the_beginning_is_a_gap() {
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Present, "x", 1000, 5),
                fault(1, TID, 0x1000, 0, 1001, 5),
                exit(2, TID, 1002, 5),
            ]
            .map(|record| (0, record)),
        );
        assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor], vec![1]));
    }

    #[test]
    fn a_name_that_another_thread_gives_does_not_tell_of_a_fault_under_way() {
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Fork, "old", 0, 0),
                fault(1, TID, 0x1000, 0, 0, 0),
                task(2, TID, TaskEvent::Rename, "new", 0, 0),
                fault(3, TID, 0x2000, 0, 1, 0),
                task(4, TID, TaskEvent::Rename, "newer", 2, 0),
                exit(5, TID, 2, 0),
            ]
            .map(|record| (0, record)),
        );
        assert_eq!(fates(&rows), [Fate::Minor, Fate::Minor]);
        let names: Vec<_> = faults(&rows)
            .iter()
            .map(|fault| fault.thread.clone().unwrap())
            .collect();
        assert_eq!(names, ["old".into(), "new".into()] as [Name; 2]);
    }

    /// The tool that names a target reads the counters of its threads while they go on.
    #[test]
    fn a_thread_that_faults_while_it_is_reported_is_reported_as_of_its_first_fault() {
        // Two faults before the record that the process is a target now, whose counters count none, one or
        // both of them, or the one that is under way.
        for reported in 1000..1003 {
            let rows = resolve(
                [
                    fault(1, TID, 0x1000, 0, 1000, 5),
                    fault(2, TID, 0x2000, 0, 1001, 5),
                    task(3, TID, TaskEvent::Present, "x", reported, 5),
                    fault(4, TID, 0x3000, 0, 1002, 5),
                    exit(5, TID, 1003, 5),
                ]
                .map(|record| (0, record)),
            );
            assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor; 3], vec![]));
            let start = rows.iter().find_map(|row| match row {
                Row::Thread(row) if row.event == ThreadEvent::Present => Some(row.min_flt),
                _ => None,
            });
            // Of the faults, the first was given out before.
            assert_eq!(start, Some(1001), "reported {reported}");
        }
    }

    #[test]
    fn a_thread_that_is_there_at_the_end_is_reported_up_to_there() {
        let at_end = |reported, more: Option<Record>| {
            let records = [
                task(0, TID, TaskEvent::Fork, "x", 0, 0),
                fault(1, TID, 0x1000, 0, 0, 0),
                fault(2, TID, 0x2000, 0, 1, 0),
                task(3, TID, TaskEvent::Alive, "x", reported, 0),
            ];
            let rows = resolve(records.into_iter().chain(more).map(|record| (0, record)));
            let end = rows.iter().find_map(|row| match row {
                Row::Thread(row) if row.event == ThreadEvent::Alive => Some(row.min_flt),
                _ => None,
            });
            (fates(&rows), gaps(&rows), end)
        };
        use Fate::{Minor, Unknown};
        // The second fault has completed; is under way; and was when the counters were read.
        assert_eq!(at_end(2, None), (vec![Minor, Minor], vec![], Some(2)));
        assert_eq!(at_end(1, None), (vec![Minor, Unknown], vec![], Some(1)));
        assert_eq!(at_end(0, None), (vec![Minor, Unknown], vec![], Some(1)));
        // Three more that are not there, or seventeen.
        for missing in [3, 17] {
            let (fates, gaps, end) = at_end(2 + missing, None);
            assert_eq!(
                (fates, gaps, end),
                (vec![Minor, Unknown], vec![missing], Some(2 + missing))
            );
        }
        // It goes on a little before nothing is recorded any more.
        let (fates, gaps, end) = at_end(1, Some(fault(4, TID, 0x3000, 0, 2, 0)));
        assert_eq!(
            (fates, gaps, end),
            (vec![Minor, Minor, Unknown], vec![], Some(1))
        );
        // One of which nothing is known is not emitted.
        let rows = resolve([(0, task(3, TID, TaskEvent::Alive, "x", 7, 0))]);
        assert!(rows.is_empty());
    }

    #[test]
    fn a_thread_that_executes_becomes_the_first_of_its_process() {
        let exec = Record::Task(Box::new(Task {
            time_ns: 4,
            tid: TID,
            pid: TID,
            parent: 1,
            event: TaskEvent::Exec,
            comm: "new".into(),
            path: "/bin/new".into(),
            min_flt: 9,
            maj_flt: 0,
            from_id: 71,
        }));
        let rows = resolve(
            [
                task(0, TID, TaskEvent::Fork, "main", 0, 0),
                task(1, 71, TaskEvent::Fork, "worker", 7, 0),
                fault(2, 71, 0x1000, 0, 7, 0),
                exit(3, TID, 0, 0),
                task(3, TID, TaskEvent::Rename, "new", 8, 0),
                fault(3, TID, 0x5000, 0, 8, 0),
                exec,
                fault(5, TID, 0x1000, 0, 9, 0),
                exit(6, TID, 10, 0),
            ]
            .map(|record| (0, record)),
        );
        assert_eq!((fates(&rows), gaps(&rows)), (vec![Fate::Minor; 3], vec![]));
        let names = |fault: &ResolvedFault| {
            (
                fault.process.clone().unwrap(),
                fault.thread.clone().unwrap(),
            )
        };
        let of = |time| {
            *faults(&rows)
                .iter()
                .find(|fault| fault.fault.time_ns == time)
                .unwrap()
        };
        assert_eq!(names(of(2)), ("main".into(), "worker".into()));
        assert_eq!(names(of(3)), ("new".into(), "new".into()));
        assert_eq!(names(of(5)), ("new".into(), "new".into()));
    }

    /// `CLONE_PARENT` makes a child of the maker's parent.
    #[test]
    fn a_process_has_the_code_of_its_maker_whoever_its_parent_is() {
        const CODE: u32 = mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC;
        let mut parents = mapping(1, 0x40000, 0, CODE, "/parent");
        if let Record::Mapping(mapping) = &mut parents {
            mapping.pid = 1;
        }
        let made = Record::Task(Box::new(Task {
            time_ns: 1,
            tid: 90,
            pid: 90,
            parent: 1,
            event: TaskEvent::Fork,
            comm: "made".into(),
            path: String::new(),
            min_flt: 0,
            maj_flt: 0,
            from_id: TID,
        }));
        let fault = Record::Fault(FaultRecord {
            header: 90
                | 90 << uapi::HEADER_TGID_SHIFT
                | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
            time_ns: 2,
            address_counters: 0,
            ip_mapping: 0x40010,
        });
        let makers = mapping(0, 0x40000, 0, CODE, "/maker");
        let rows = resolve([parents, makers, made, fault].map(|record| (0, record)));
        let code = faults(&rows)[0].code.as_ref().expect("known code");
        assert_eq!((&*code.object.name, code.offset), ("/maker", 0x10));
    }

    #[test]
    fn mappings_are_those_of_the_same_cpu_at_that_time() {
        let file = mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC;
        let exec = fault_flag::FILE | fault_flag::INSTRUCTION;
        let rows = resolve([
            (0, mapping(300, 0x10000, 0x2000, file, "/bin/a")),
            (1, mapping(300, 0x10000, 0, mapping_flag::WRITE, "")),
            (0, in_mapping(1, 70, 0x10123, exec, 0, 0, 300)),
            (1, in_mapping(2, 71, 0x10456, fault_flag::WRITE, 0, 0, 300)),
            (0, mapping(300, 0x10000, 0, file, "/bin/b")),
            (0, in_mapping(3, 72, 0x10789, exec, 0, 0, 300)),
            (2, in_mapping(4, 73, 0x10789, exec, 0, 0, 300)),
            (
                0,
                in_mapping(5, 74, 0x10789, exec, 0, 0, uapi::MAPPING_UNKNOWN),
            ),
        ]);
        let places: Vec<_> = faults(&rows)
            .iter()
            .map(|fault| {
                let place = fault.place.as_ref()?;
                Some((
                    place.name.to_string(),
                    place.permissions.to_string(),
                    place.file_offset,
                ))
            })
            .collect();
        assert_eq!(
            places,
            [
                Some(("/bin/a".into(), "r-xp".into(), Some(0x2123))),
                Some(("[anon]".into(), "-w-p".into(), None)),
                Some(("/bin/b".into(), "r-xp".into(), Some(0x789))),
                None,
                None,
            ]
        );
        assert_eq!(faults(&rows)[1].kind, Kind::ZeroFill);
    }

    #[test]
    fn numbers_from_before_an_overrun_mean_nothing_behind_it() {
        let overrun = Record::Overrun(Overrun {
            since_ns: 1,
            until_ns: 3,
            slots: 7,
        });
        let rows = resolve([
            (0, mapping(300, 0x10000, 0, mapping_flag::READ, "/bin/a")),
            (1, mapping(300, 0x10000, 0, mapping_flag::READ, "/bin/b")),
            (0, in_mapping(1, 70, 0x10123, 0, 0, 0, 300)),
            (0, overrun),
            (0, in_mapping(3, 71, 0x10456, 0, 0, 0, 300)),
            (1, in_mapping(4, 72, 0x10789, 0, 0, 0, 300)),
        ]);
        let names: Vec<_> = faults(&rows)
            .iter()
            .map(|fault| fault.place.as_ref().map(|place| place.name.to_string()))
            .collect();
        assert_eq!(names, [Some("/bin/a".into()), None, Some("/bin/b".into())]);
        assert!(rows.iter().any(|row| row.event() == "overrun"));
    }

    #[test]
    fn faults_that_wait_are_reported_once() {
        let mut resolver = Resolver::new();
        let mut out = Vec::new();
        resolver.push(0, fault(5, TID, 0x1000, 0, 0, 0), &mut out);
        for _ in 0..2 {
            resolver.pending(&mut out);
        }
        resolver.finish(&mut out);
        let events: Vec<_> = out.iter().map(Row::event).collect();
        assert_eq!(events, ["pending", "fault"]);
    }

    #[test]
    fn names_that_nothing_uses_are_forgotten() {
        let mut names = Names::default();
        let kept = names.of("kept");
        for n in 0..2 * NAMES_MOST {
            names.of(&n.to_string());
        }
        assert!(names.0.len() <= NAMES_MOST + 1);
        assert!(Arc::ptr_eq(&kept, &names.of("kept")));
    }

    proptest! {
        /// However faults are dropped, those found and the gaps add up to the counters.
        #[test]
        fn gaps_and_faults_add_up(
            faults in prop::collection::vec((0..4u32, any::<bool>(), 0..10u8), 0..200),
        ) {
            let mut counters = [(0u64, 0u64); 4];
            let mut records: Vec<_> =
                (0..4).map(|n| (0, task(0, TID + n, TaskEvent::Fork, "x", 0, 0))).collect();
            let mut kept = 0;
            for (time, (thread, major, drop)) in (1..).zip(faults) {
                let (min, maj) = counters[thread as usize];
                if drop != 0 {
                    kept += 1;
                    records.push((0, fault(time, TID + thread, time << 12, 0, min, maj)));
                }
                counters[thread as usize] = if major { (min, maj + 1) } else { (min + 1, maj) };
            }
            for (n, (min, maj)) in (0..).zip(counters) {
                records.push((0, exit(1000, TID + n, min, maj)));
            }
            let rows = resolve(records);
            let total: u64 = counters.iter().map(|(min, maj)| min + maj).sum();
            prop_assert_eq!(fates(&rows).len(), kept);
            let gaps: u64 = gaps(&rows).iter().sum();
            prop_assert_eq!(gaps % 16, (total - kept as u64) % 16);
            prop_assert_eq!(gaps, total - kept as u64);
        }
    }
}
