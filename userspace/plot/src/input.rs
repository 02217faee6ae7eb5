// SPDX-License-Identifier: GPL-2.0-only

//! Rows of a trace → columns. Nothing else in this crate sees a row.

use std::{
    collections::{hash_map::Entry, HashMap},
    sync::Arc,
};

use fault_tracer_trace::{
    export::{unknown_in, Symbols},
    Account, Fate, FrameRow, Kind, Loss, Metadata, Name, ResolvedFault, Row, ThreadEvent,
    OUTERMOST,
};
use rustc_hash::FxHashMap;

use crate::Error;

/// Stands for "none" in columns of indices.
pub const NONE: u32 = u32::MAX;

/// A duration that was not recorded.
pub const NO_DURATION: u64 = u64::MAX;

/// Faults that fit in one picture: indices of 32 bits, and room for [`NONE`].
const FAULTS_MOST: usize = (u32::MAX - 1) as usize;

/// Marks and losses that a picture keeps one by one; of more, the later ones are only counted.
const EVENTS_MOST: usize = 1 << 20;

/// Names, each once.
#[derive(Default)]
pub struct Names {
    index: HashMap<Name, u32>,
    /// The last names that came and their indices: batches share the allocations of theirs.
    recent: Vec<Option<(Name, u32)>>,
    /// The names by index.
    pub list: Vec<Name>,
}

impl Names {
    const RECENT: usize = 256;

    /// The index of a name.
    pub fn of(&mut self, name: &Name) -> u32 {
        if self.recent.is_empty() {
            self.recent.resize(Self::RECENT, None);
        }
        let slot = (Arc::as_ptr(name).addr() >> 4) % Self::RECENT;
        if let Some((known, index)) = &self.recent[slot] {
            if Arc::ptr_eq(known, name) {
                return *index;
            }
        }
        let index = match self.index.get(name) {
            Some(&index) => index,
            None => {
                // CAST: there are fewer names than rows.
                let index = self.list.len() as u32;
                self.list.push(Arc::clone(name));
                self.index.insert(Arc::clone(name), index);
                index
            }
        };
        self.recent[slot] = Some((Arc::clone(name), index));
        index
    }

    /// The index of an optional name, or [`NONE`].
    pub fn optional(&mut self, name: Option<&Name>) -> u32 {
        name.map_or(NONE, |name| self.of(name))
    }
}

/// What a fault's region is found by: the key of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// The mapping, an index of [`Input::names`], or [`NONE`].
    pub mapping: u32,
    /// What is to be subtracted from an address to get the offset in the file, if there is one: whole pages.
    pub base: Option<u64>,
    /// Whether the mapping is writable.
    pub writable: bool,
    /// Which part of the address space.
    pub area: Area,
    /// Whose it is, where processes are apart: an index of [`Input::owners`], else [`NONE`].
    pub owner: u32,
}

/// How pictures have several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// Over each other, aligned.
    #[default]
    Together,
    /// Those with the most faults each have panels of their own, the others share some.
    Apart,
}

/// So many processes have panels of their own, where they are apart.
const OWNERS_MOST: usize = 8;

/// Parts of the address space of Linux, where no mapping tells more: of x86-64, and of arm64 with 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Programs that are not position-independent, their heaps, and what else is below 4 GiB.
    Low,
    /// Position-independent programs and their heaps.
    Program,
    /// Everything between: mappings; on x86-64 with five-level page tables also those above 2^47.
    Mapped,
    /// The last 16 GiB below 2^47: the main stack, vDSO, arguments of exec. Of arm64, where other mappings lie beside
    /// them, this is not known.
    Stack,
    /// The half of the kernel.
    Kernel,
}

impl Area {
    /// The area of an address.
    pub const fn of(address: u64) -> Self {
        const GIB: u64 = 1 << 30;
        match address {
            0..=0xffff_ffff => Self::Low,
            // Two thirds of the address space, and as much further as the kernel may choose at random.
            0x5555_5555_4000..=0x69ff_ffff_ffff => Self::Program,
            0xaaaa_aaaa_0000..=0xcaff_ffff_ffff => Self::Program,
            _ if address >= (1 << 47) - 16 * GIB && address < 1 << 47 => Self::Stack,
            _ if address >= 1 << 63 => Self::Kernel,
            _ => Self::Mapped,
        }
    }
}

/// A thread with one pair of names: one that is renamed is another here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name of the process: an index of [`Input::names`], or [`NONE`].
    pub process: u32,
    /// Name of the thread, likewise.
    pub thread: u32,
}

/// What happened to a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of the trace's clock.
    pub time_ns: u64,
    /// What.
    pub what: ThreadEvent,
    /// Which thread.
    pub pid: u32,
    /// Which thread.
    pub tid: u32,
    /// Name of the thread or, of an exec, the program: an index of [`Input::names`], or [`NONE`].
    pub name: u32,
    /// The parent of a fork, or 0.
    pub parent: u32,
}

/// Faults that are not in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// From when on, in nanoseconds of the trace's clock.
    pub time_ns: u64,
    /// Until when.
    pub end_ns: u64,
    /// How many.
    pub count: u64,
    /// How.
    pub how: MissingHow,
    /// The CPU of a loss, the thread of a gap.
    pub whose: u32,
}

/// How faults got lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingHow {
    /// A CPU's ring was full.
    Dropped,
    /// A CPU's ring was overwritten.
    Overwritten,
    /// A thread's counters rose by more than its faults.
    Gap,
}

/// What a fault is coded by in [`Input::what`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    /// Index of [`Kind::ALL`].
    pub kind: u8,
    /// Index of [`fault_tracer_trace::Access::ALL`].
    pub access: u8,
    /// Index of [`Fate::ALL`].
    pub fate: u8,
    /// The binary logarithm of the bytes of the page that was mapped; 0: not known.
    pub page_bits: u8,
}

impl What {
    const ACCESSES: u16 = 3;
    // CAST: some tens of kinds, and 5 fates.
    const KINDS: u16 = Kind::ALL.len() as u16;
    const FATES: u16 = Fate::ALL.len() as u16;

    /// As one number: 64 sizes, some tens of kinds, 3 accesses and 5 fates fit.
    pub const fn code(self) -> u16 {
        let what = self.page_bits as u16 * Self::KINDS + self.kind as u16;
        (what * Self::ACCESSES + self.access as u16) * Self::FATES + self.fate as u16
    }

    /// From that number.
    pub const fn of(code: u16) -> Self {
        let what = code / Self::FATES / Self::ACCESSES;
        Self {
            // CAST: remainders of small numbers.
            kind: (what % Self::KINDS) as u8,
            access: (code / Self::FATES % Self::ACCESSES) as u8,
            fate: (code % Self::FATES) as u8,
            page_bits: (what / Self::KINDS) as u8,
        }
    }
}

/// The columns of a trace: in each, a fault has the same index. In the order of time.
pub struct Input {
    /// What the trace says of itself.
    pub metadata: Metadata,
    /// When, in nanoseconds of the trace's clock.
    pub time_ns: Vec<u64>,
    /// The address.
    pub address: Vec<u64>,
    /// Index of [`Input::regions`].
    pub region: Vec<u32>,
    /// Index of [`Input::threads`].
    pub thread: Vec<u32>,
    /// Index of [`Input::codes`], or [`NONE`]. Empty if no fault has one.
    pub code: Vec<u32>,
    /// See [`What::code`].
    pub what: Vec<u16>,
    /// In nanoseconds, or [`NO_DURATION`]. Empty if no fault has one.
    pub duration_ns: Vec<u64>,
    /// The faults that took more than one attempt, and how many.
    pub attempts: FxHashMap<u32, u32>,
    /// All regions.
    pub regions: Vec<Region>,
    /// Processes that have panels of their own, in words.
    pub owners: Vec<String>,
    /// All threads.
    pub threads: Vec<Thread>,
    /// What stands at instruction pointers, and who called it.
    pub codes: Vec<CodeKey>,
    /// Callers.
    pub frames: Vec<Frame>,
    /// All names.
    pub names: Vec<Name>,
    /// Forks, execs, exits, in the order of time.
    pub events: Vec<Event>,
    /// Losses and gaps, in the order of time.
    pub missing: Vec<Missing>,
    /// Events and losses beyond those kept.
    pub left_out: u64,
    /// The times of the first and the last row of a thread, in nanoseconds of the trace's clock.
    pub bounds_ns: Option<(u64, u64)>,
}

/// What stands at an instruction pointer: a symbol, or the object alone, indices of [`Input::names`]; and its nearest
/// caller, as in [`Frame::caller`]. [`NONE`] where that is not known, or was not recorded.
pub type CodeKey = (u32, u32, u32);

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its symbol, else what stands for one: index of [`Input::names`], or [`NONE`].
    pub name: u32,
    /// Who called it: index of [`Input::frames`]; [`NONE`] if nobody did, [`CUT_OFF`] if that is not known.
    pub caller: u32,
}

/// In the place of a caller: it is not known.
pub const CUT_OFF: u32 = NONE - 1;

/// Makes columns of rows.
pub struct Builder<'a> {
    input: Input,
    names: Names,
    symbols: &'a mut dyn Symbols,
    regions: FxHashMap<Region, u32>,
    threads: FxHashMap<Thread, u32>,
    /// By object, build id and offset: asked for once.
    codes: FxHashMap<(u32, u32, u64), u32>,
    code_index: FxHashMap<CodeKey, u32>,
    /// By the trace's numbers of frames: indices of [`Input::frames`].
    frames: FxHashMap<u32, u32>,
    /// Attempts of a thread whose fault is still to come.
    attempts: FxHashMap<(u32, u32), u32>,
    account: Account,
    counted: bool,
}

impl<'a> Builder<'a> {
    /// Begins with no rows.
    pub fn new(metadata: Metadata, symbols: &'a mut dyn Symbols) -> Self {
        Self {
            input: Input {
                metadata,
                time_ns: Vec::new(),
                address: Vec::new(),
                region: Vec::new(),
                thread: Vec::new(),
                code: Vec::new(),
                what: Vec::new(),
                duration_ns: Vec::new(),
                attempts: FxHashMap::default(),
                regions: Vec::new(),
                owners: Vec::new(),
                threads: Vec::new(),
                codes: Vec::new(),
                frames: Vec::new(),
                names: Vec::new(),
                events: Vec::new(),
                missing: Vec::new(),
                left_out: 0,
                bounds_ns: None,
            },
            names: Names::default(),
            symbols,
            regions: FxHashMap::default(),
            threads: FxHashMap::default(),
            codes: FxHashMap::default(),
            code_index: FxHashMap::default(),
            frames: FxHashMap::default(),
            attempts: FxHashMap::default(),
            account: Account::default(),
            counted: false,
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`] where indices would not fit any more.
    pub fn add(&mut self, row: &Row) -> Result<(), Error> {
        match row {
            Row::Fault(fault) => return self.fault(fault),
            Row::Pending(_) | Row::Text(_) => {}
            Row::Frame(frame) => self.frame(frame),
            Row::Counter(row) => self.counted |= row.add_to(&mut self.account),
            Row::Thread(row) => {
                self.symbols.thread(row);
                let time_ns = row.time_ns;
                let (first, last) = self.input.bounds_ns.unwrap_or((time_ns, time_ns));
                self.input.bounds_ns = Some((first.min(time_ns), last.max(time_ns)));
                let name = match row.event {
                    ThreadEvent::Exec => row.program.as_ref().or(row.thread.as_ref()),
                    ThreadEvent::Fork | ThreadEvent::Exit => row.thread.as_ref(),
                    ThreadEvent::Present
                    | ThreadEvent::Rename
                    | ThreadEvent::Alive
                    | ThreadEvent::Left => return Ok(()),
                };
                let event = Event {
                    time_ns: row.time_ns,
                    what: row.event,
                    pid: row.pid,
                    tid: row.tid,
                    name: self.names.optional(name),
                    parent: row.parent.unwrap_or(0),
                };
                self.input.keep_event(event);
            }
            Row::Gap(row) => self.input.keep_missing(Missing {
                time_ns: row.time_ns,
                end_ns: row.end_ns,
                count: row.count,
                how: MissingHow::Gap,
                whose: row.tid,
            }),
            Row::Lost(row) => self.input.keep_missing(Missing {
                time_ns: row.time_ns,
                end_ns: row.end_ns,
                count: row.count,
                how: match row.how {
                    Loss::Dropped => MissingHow::Dropped,
                    Loss::Overwritten => MissingHow::Overwritten,
                },
                whose: row.cpu,
            }),
        }
        Ok(())
    }

    fn fault(&mut self, row: &ResolvedFault) -> Result<(), Error> {
        let fault = &row.fault;
        let id = (fault.pid, fault.tid);
        if row.fate == Fate::Retried {
            let before = self.attempts.entry(id).or_insert(0);
            *before = before.saturating_add(row.attempts);
            return Ok(());
        }
        let input = &mut self.input;
        let page_size = input.metadata.page_size;
        let index = input.time_ns.len();
        if index >= FAULTS_MOST {
            return Err(Error::TooMany);
        }
        // Those before have rows of their own where the recording kept them apart.
        let before = self.attempts.remove(&id).unwrap_or(0);
        let attempts = before.saturating_add(row.attempts);
        if attempts > 1 {
            // CAST: below FAULTS_MOST.
            input.attempts.insert(index as u32, attempts);
        }
        input.time_ns.push(fault.time_ns);
        input.address.push(fault.address);
        let what = What {
            // CAST: they have numbers of eight bits.
            kind: row.kind as u8,
            access: fault.access as u8,
            fate: row.fate as u8,
            // Pages are powers of two; a damaged trace may say otherwise.
            page_bits: row
                .page_bytes
                .filter(|bytes| bytes.is_power_of_two())
                .map_or(0, |bytes| bytes.ilog2() as u8),
        };
        input.what.push(what.code());
        let place = row.place.as_ref();
        let region = Region {
            mapping: self.names.optional(place.map(|place| &place.name)),
            base: place
                .and_then(|place| place.file_offset)
                .map(|offset| fault.address.wrapping_sub(offset))
                .filter(|base| page_size.start_of(*base) == *base),
            writable: place.is_some_and(|place| place.permissions.as_bytes().get(1) == Some(&b'w')),
            area: Area::of(fault.address),
            owner: NONE,
        };
        let region = number(&mut self.regions, &mut input.regions, region);
        input.region.push(region);
        let thread = Thread {
            pid: fault.pid,
            tid: fault.tid,
            process: self.names.optional(row.process.as_ref()),
            thread: self.names.optional(row.thread.as_ref()),
        };
        let thread = number(&mut self.threads, &mut input.threads, thread);
        input.thread.push(thread);
        self.duration(index, row.duration_ns);
        self.code(index, row);
        Ok(())
    }

    fn duration(&mut self, index: usize, duration_ns: Option<u64>) {
        let column = &mut self.input.duration_ns;
        match duration_ns {
            None if column.is_empty() => {}
            _ => {
                column.resize(index, NO_DURATION);
                column.push(duration_ns.unwrap_or(NO_DURATION));
            }
        }
    }

    fn frame(&mut self, row: &FrameRow) {
        let symbol = self.symbols.caller(row);
        let object = row.code.as_ref().map(|code| unknown_in(&code.object.name));
        let name = symbol.map(|symbol| symbol.name).or(object);
        let frame = Frame {
            name: self.names.optional(name.as_ref()),
            caller: self.caller(row.caller),
        };
        // CAST: there are fewer than 2^32 numbers.
        self.frames.insert(row.id, self.input.frames.len() as u32);
        self.input.frames.push(frame);
    }

    /// A caller of the trace as the picture has it.
    fn caller(&self, id: u32) -> u32 {
        match id {
            OUTERMOST => NONE,
            // A damaged trace may lack some.
            id => self.frames.get(&id).copied().unwrap_or(CUT_OFF),
        }
    }

    fn code(&mut self, index: usize, row: &ResolvedFault) {
        let mut column = self.code_of(row);
        if let Some(stack) = row.stack {
            let caller = self.caller(stack);
            let (symbol, object, _) = match column {
                NONE => (NONE, NONE, NONE),
                known => self.input.codes[known as usize],
            };
            let key = (symbol, object, caller);
            column = number(&mut self.code_index, &mut self.input.codes, key);
        }
        if column == NONE && self.input.code.is_empty() {
            return;
        }
        self.input.code.resize(index, NONE);
        self.input.code.push(column);
    }

    /// What stands at a fault's instruction pointer, whoever called it.
    fn code_of(&mut self, row: &ResolvedFault) -> u32 {
        let Some(code) = &row.code else {
            let Some(symbol) = self.symbols.of(row) else {
                return NONE;
            };
            let key = (self.names.of(&symbol.name), NONE, NONE);
            return number(&mut self.code_index, &mut self.input.codes, key);
        };
        let object = self.names.of(&code.object.name);
        let build_id = self.names.optional(code.object.build_id.digits());
        match self.codes.entry((object, build_id, code.offset)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let symbol = self.symbols.symbol(code, row.fault.time_ns);
                let key = (
                    self.names
                        .optional(symbol.as_ref().map(|symbol| &symbol.name)),
                    object,
                    NONE,
                );
                *new.insert(number(&mut self.code_index, &mut self.input.codes, key))
            }
        }
    }

    /// The columns, in the order of time.
    pub fn finish(mut self, processes: Processes) -> Input {
        self.input.names = self.names.list;
        if self.counted && self.input.metadata.account.is_none() {
            self.input.metadata.account = Some(self.account);
        }
        if !self.input.code.is_empty() {
            let faults = self.input.time_ns.len();
            self.input.code.resize(faults, NONE);
        }
        if !self.input.duration_ns.is_empty() {
            let faults = self.input.time_ns.len();
            self.input.duration_ns.resize(faults, NO_DURATION);
        }
        self.input.sort();
        if processes == Processes::Apart {
            self.input.part_processes();
        }
        self.input
    }
}

/// The number of a key: that of its first appearance.
fn number<K: Copy + Eq + std::hash::Hash>(
    index: &mut FxHashMap<K, u32>,
    list: &mut Vec<K>,
    key: K,
) -> u32 {
    *index.entry(key).or_insert_with(|| {
        list.push(key);
        // CAST: there are fewer keys than faults.
        (list.len() - 1) as u32
    })
}

impl Input {
    /// The number of faults.
    pub fn len(&self) -> usize {
        self.time_ns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.time_ns.is_empty()
    }

    fn keep_event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MOST {
            self.events.push(event);
        } else {
            self.left_out += 1;
        }
    }

    fn keep_missing(&mut self, missing: Missing) {
        if self.missing.len() < EVENTS_MOST {
            self.missing.push(missing);
        } else {
            self.left_out += 1;
        }
    }

    /// Gives each region to a process.
    fn part_processes(&mut self) {
        let mut faults: FxHashMap<u32, (u64, u32)> = FxHashMap::default();
        for &thread in &self.thread {
            let Thread { pid, process, .. } = self.threads[thread as usize];
            let entry = faults.entry(pid).or_default();
            // Its last name.
            *entry = (entry.0 + 1, process);
        }
        let mut order: Vec<(u32, (u64, u32))> = faults.into_iter().collect();
        order.sort_by_key(|&(pid, (faults, _))| (std::cmp::Reverse(faults), pid));
        let others = order.split_off(order.len().min(OWNERS_MOST));
        let mut owner_of = FxHashMap::default();
        for (pid, (_, process)) in order {
            // CAST: some.
            owner_of.insert(pid, self.owners.len() as u32);
            let name = self.names.get(process as usize);
            self.owners
                .push(name.map_or_else(|| pid.to_string(), |name| format!("{name} {pid}")));
        }
        let rest = self.owners.len() as u32;
        if !others.is_empty() {
            self.owners.push(format!("{} others", others.len()));
        }
        let mut numbers = FxHashMap::default();
        let mut regions = Vec::new();
        for (region, &thread) in self.region.iter_mut().zip(&self.thread) {
            let pid = self.threads[thread as usize].pid;
            let own = Region {
                owner: owner_of.get(&pid).copied().unwrap_or(rest),
                ..self.regions[*region as usize]
            };
            *region = number(&mut numbers, &mut regions, own);
        }
        self.regions = regions;
    }

    /// Rows come nearly in the order of time: a fault is written when its fate is known.
    fn sort(&mut self) {
        self.events.sort_by_key(|event| event.time_ns);
        self.missing.sort_by_key(|missing| missing.time_ns);
        if self.time_ns.is_sorted() {
            return;
        }
        // CAST: below FAULTS_MOST.
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|&index| self.time_ns[index as usize]);
        fn gather<T: Copy>(column: &mut Vec<T>, order: &[u32]) {
            if !column.is_empty() {
                *column = order.iter().map(|&from| column[from as usize]).collect();
            }
        }
        gather(&mut self.time_ns, &order);
        gather(&mut self.address, &order);
        gather(&mut self.region, &order);
        gather(&mut self.thread, &order);
        gather(&mut self.code, &order);
        gather(&mut self.what, &order);
        gather(&mut self.duration_ns, &order);
        if !self.attempts.is_empty() {
            let old = std::mem::take(&mut self.attempts);
            for (to, from) in order.iter().enumerate() {
                if let Some(&attempts) = old.get(from) {
                    self.attempts.insert(to as u32, attempts);
                }
            }
        }
    }
}
