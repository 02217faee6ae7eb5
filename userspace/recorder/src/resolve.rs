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
    permissions, Fate, Fault, GapRow, Kind, Loss, LostRow, Name, PageSize, Place, ResolvedFault,
    Row, ThreadEvent, ThreadRow, ANONYMOUS,
};
use fault_tracer_uapi::{self as uapi, fault_flag, mapping_flag, FaultRecord};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    code::{Codes, LookAtFile},
    counters::Counters,
    stacks::Stacks,
};

/// When more names than this are kept, those that nothing refers to are forgotten.
const NAMES_MOST: usize = 1 << 16;

/// Bytes of the page that a fault of a kind has mapped, as its return tells them. Where memory is filled, all of a folio
/// is mapped at once; else the page alone.
fn page_bytes(kind: Kind, page: u32, page_size: PageSize) -> Option<u64> {
    let (shift, folio_shift) = (page & 0xff, page >> 8 & 0xff);
    let shift = match kind {
        Kind::ZeroFill | Kind::SwapIn => shift.max(folio_shift),
        _ => shift,
    };
    // The module tells no other: none is smaller than a page.
    (page_size.shift()..48).contains(&shift).then(|| 1 << shift)
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
    page_size: PageSize,
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

    /// Takes how large the machine's pages are; without it, 4 KiB.
    pub fn set_page_size(&mut self, page_size: PageSize) {
        self.page_size = page_size;
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
        let goes_on = thread
            .held
            .as_ref()
            .is_some_and(|held| goes_on(&held.last, &fault, self.page_size));
        let counters = thread.advance(goes_on, &fault, &before, joins, out);
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
        resolved.around = None;
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
                fault.page_bytes = page_bytes(fault.kind, end.page, self.page_size);
                fault.page_node = page_node(end.page);
                fault.around = end.around;
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
                        old.advance(false, &end(task.from_id), &first, false, out);
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
            thread.advance(false, &end(task.tid), &counters, false, out);
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
        thread.advance(false, &end, &counters, false, out);
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
    /// and a gap where they have risen by more. `goes_on` is whether that record is a fault that goes on with the one held,
    /// `end` when and where it was written. Returns the counters at the next record.
    ///
    /// With `joins`, a fault that the next one goes on with stays held.
    fn advance(
        &mut self,
        goes_on: bool,
        end: &Fault,
        counters: &Counters,
        joins: bool,
        out: &mut Vec<Row>,
    ) -> Counters {
        let held = self.held.take();
        if let (None, Some(waiting), true) = (self.counters, &held, goes_on) {
            // Of a selection of the faults.
            if joins && waiting.fault.fate == Fate::Retried {
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
            let goes_on = goes_on && risen == (0, 0);
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

/// Whether a fault is a further attempt of the one before, which did not complete: of the same page.
fn goes_on(before: &Fault, next: &Fault, page_size: PageSize) -> bool {
    let is = |fault: &Fault, flag| u64::from(fault.flags) & flag != 0;
    page_size.page_of(before.address) == page_size.page_of(next.address)
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
mod tests;
