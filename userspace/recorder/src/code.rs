// SPDX-License-Identifier: GPL-2.0-only

//! Which code a fault's instruction pointer points to.
//!
//! The mapping of a fault is that of its address. Where its instruction pointer lies is known from the
//! faults in code that came before, of any thread of the process: the code that runs was faulted in once.
//! A new process has the mappings of the one that made it, one that executes a program has none of those before.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use fault_tracer_client::Mapping;
use fault_tracer_symbols::UnwindTable;
use fault_tracer_trace::{BuildId, Code, Fault, FileId, Name, Object, TextRow};
use fault_tracer_uapi::mapping_flag;
use rustc_hash::FxHashMap;

/// The only code that is no file's and nevertheless has symbols.
const VDSO: &str = "[vdso]";

/// Mappings of a process that are found at once: its own code, and that of two or three libraries.
const RECENT: usize = 4;

/// What the file of a mapping says of itself, as far as it is an ELF file and could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfPlace {
    /// See [`Object::build_id`].
    pub build_id: BuildId,
    /// See [`Object::bias`], at the mapping's offset.
    pub bias: Option<u64>,
    /// See [`FileId::changed_ns`].
    pub changed_ns: Option<i64>,
    /// How its stacks are unwound, if that was asked for.
    pub unwind: Option<Arc<UnwindTable>>,
}

/// Looks at the files of running processes, when they are first reported.
pub trait LookAtFile: fmt::Debug + Send {
    /// What the file of a mapping that code is in says; [`BuildId::Unread`] where it cannot be read.
    fn look(&mut self, mapping: &Mapping) -> ElfPlace;

    /// How stacks of the kernel's own code in programs are unwound, if that was asked for.
    fn vdso(&mut self) -> Option<Arc<UnwindTable>> {
        None
    }

    /// The code that a running process has mapped; nothing where that cannot be read.
    fn mapped(&mut self, pid: u32) -> Vec<Mapping> {
        let _ = pid;
        Vec::new()
    }

    /// A path as a process sees it, whose root may be another. `path` is as this program sees it, as the kernel prints it
    /// for whoever begins a recording. `None` where both see the same, or where that is not known.
    fn seen_by(&self, pid: u32, path: &str) -> Option<String> {
        let _ = (pid, path);
        None
    }
}

/// Code of all processes.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    processes: FxHashMap<u32, Process>,
    /// Changes of mappings so far.
    changes: u64,
    look: Option<Box<dyn LookAtFile>>,
}

#[derive(Debug, Default)]
struct Process {
    texts: Arc<Texts>,
    /// [`Codes::changes`] when they changed last.
    changed: u64,
    /// The last object of each name.
    emitted: FxHashMap<Name, Emitted>,
    /// Code of the last faults, of which nothing is to be emitted.
    recent: [Option<Recent>; RECENT],
    /// Which of them is the oldest.
    oldest: usize,
    /// Threads that have begun and not ended.
    threads: u32,
    /// What it had mapped before the recording is known, and will not be said again. It is kept when no thread is
    /// known: that the first one has ended may be reported before the others are.
    is_listed: bool,
    /// It was there before the recording, and it has not been asked yet what it had mapped.
    is_unasked: bool,
}

/// Mappings of code that do not overlap, by their first addresses.
type Texts = BTreeMap<u64, Text>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    end: u64,
    /// First address of the mapping, and its offset in the file.
    start: u64,
    offset: u64,
    object: Arc<Object>,
    unwind: Option<Arc<UnwindTable>>,
}

impl Text {
    /// Its first address and that behind its last, as mapped now.
    pub fn range(&self, start: u64) -> Range<u64> {
        start..self.end
    }

    /// What is to be added (modulo 2^64) to an address in the file's own counting to get that in the process, and how
    /// its stacks are unwound, if both are known.
    pub fn unwind(&self) -> Option<(u64, &Arc<UnwindTable>)> {
        // The kernel's own code counts from its beginning.
        let bias = match &self.object.file {
            Some(_) => self.object.bias?,
            None => 0,
        };
        Some((self.base().wrapping_sub(bias), self.unwind.as_ref()?))
    }

    fn base(&self) -> u64 {
        self.start.wrapping_sub(self.offset)
    }

    /// Whether it is a mapping that is reported once more, with a build id that is known or nothing new.
    fn is(&self, mapping: &Mapping, offset: u64, name: &Name, build_id: Option<&BuildId>) -> bool {
        let Mapping {
            end, device, inode, ..
        } = *mapping;
        let file = self.object.file.as_ref();
        (self.end, self.offset) == (end, offset)
            && self.object.name == *name
            && file.is_none_or(|file| (file.device, file.inode) == (device, inode))
            && build_id.is_none_or(|build_id| self.object.build_id == *build_id)
    }
}

#[derive(Debug)]
struct Emitted {
    object: Arc<Object>,
    base: u64,
    time_ns: u64,
}

/// A mapping of an object, as it was last reported.
#[derive(Debug)]
struct Recent {
    start: u64,
    end: u64,
    base: u64,
    emitted_ns: u64,
    object: Arc<Object>,
}

impl Codes {
    /// Looks at files by `look`.
    pub fn looking(look: Box<dyn LookAtFile>) -> Self {
        Self {
            look: Some(look),
            ..Self::default()
        }
    }

    /// See [`LookAtFile::seen_by`].
    pub fn seen_by(&self, pid: u32, path: &str) -> Option<String> {
        self.look.as_ref()?.seen_by(pid, path)
    }

    /// Takes a mapping of a process, of whose name there is a copy.
    pub fn mapping(&mut self, mapping: &Mapping, name: &Name) {
        let Mapping { start, end, .. } = *mapping;
        if start >= end {
            return;
        }
        let is_file = mapping.flags & mapping_flag::FILE != 0;
        let is_code = mapping.flags & mapping_flag::EXEC != 0 && (is_file || mapping.path == VDSO);
        if !is_code {
            // Whatever was there before is gone.
            if let Some(process) = self.processes.get_mut(&mapping.pid) {
                if overlapping(&process.texts, start, end).next().is_some() {
                    process.recent = Default::default();
                    self.changes += 1;
                    process.changed = self.changes;
                    cut(Arc::make_mut(&mut process.texts), start, end);
                }
            }
            return;
        }
        let process = self.processes.entry(mapping.pid).or_default();
        let offset = if is_file { mapping.offset } else { 0 };
        // That of the very file, which may be gone.
        let file = mapping.file.as_ref();
        let build_id = file.and_then(|file| Some(BuildId::of_bytes(file.build_id.as_deref()?)));
        if let Some(known) = process.texts.get(&start) {
            // Emitted by another CPU, or of the parent.
            if known.is(mapping, offset, name, build_id.as_ref()) {
                return;
            }
        }
        let mut elf = match &mut self.look {
            Some(look) if is_file => look.look(mapping),
            _ if is_file => ElfPlace::default(),
            look => ElfPlace {
                build_id: BuildId::Absent,
                unwind: look.as_mut().and_then(|look| look.vdso()),
                ..ElfPlace::default()
            },
        };
        if let Some(reported) = build_id {
            if elf.build_id != reported {
                // What was looked at is another file in its place, or none.
                elf = ElfPlace {
                    build_id: reported,
                    ..ElfPlace::default()
                };
            }
            elf.bias = elf.bias.or(file.and_then(|file| file.bias));
        }
        process.recent = Default::default();
        self.changes += 1;
        process.changed = self.changes;
        let texts = Arc::make_mut(&mut process.texts);
        cut(texts, start, end);
        texts.insert(
            start,
            Text {
                end,
                start,
                offset,
                object: Arc::new(Object {
                    name: Arc::clone(name),
                    build_id: elf.build_id,
                    bias: elf.bias,
                    file: is_file.then_some(FileId {
                        device: mapping.device,
                        inode: mapping.inode,
                        changed_ns: elf.changed_ns,
                    }),
                }),
                unwind: elf.unwind,
            },
        );
    }

    /// Takes a mapping that a process had before the recording.
    pub fn listed(&mut self, mapping: &Mapping, name: &Name) {
        self.mapping(mapping, name);
        if let Some(process) = self.processes.get_mut(&mapping.pid) {
            process.is_listed = true;
        }
    }

    /// A thread has begun; `maker` is the process that made it.
    pub fn begin(&mut self, pid: u32, tid: u32, maker: Option<u32>) {
        if let (true, Some(maker)) = (pid == tid, maker) {
            let texts = self.processes.get(&maker).map(|maker| &maker.texts);
            self.changes += 1;
            let process = Process {
                texts: texts.cloned().unwrap_or_default(),
                changed: self.changes,
                ..Process::default()
            };
            self.processes.insert(pid, process);
        }
        let process = self.processes.entry(pid).or_insert_with(|| Process {
            is_unasked: maker.is_none(),
            ..Process::default()
        });
        process.threads += 1;
    }

    /// A process executes a program: its other threads have ended.
    pub fn exec(&mut self, pid: u32) {
        self.changes += 1;
        let process = Process {
            changed: self.changes,
            threads: 1,
            ..Process::default()
        };
        self.processes.insert(pid, process);
    }

    /// Records are missing: what was mapped before need not be any more.
    pub fn forget(&mut self) {
        self.changes += 1;
        for process in self.processes.values_mut() {
            process.changed = self.changes;
            process.texts = Arc::default();
            process.recent = Default::default();
        }
    }

    /// The mappings of a process's code by their first addresses, and a number that grows when they change.
    pub fn texts(&self, pid: u32) -> Option<(u64, impl Iterator<Item = (u64, &Text)>)> {
        let process = self.processes.get(&pid)?;
        let texts = process.texts.iter().map(|(&start, text)| (start, text));
        Some((process.changed, texts))
    }

    /// How many processes something is known of.
    #[cfg(test)]
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// A thread has ended.
    pub fn end(&mut self, pid: u32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.threads = process.threads.saturating_sub(1);
            if process.threads == 0 && !process.is_listed {
                self.processes.remove(&pid);
            }
        }
    }

    /// Makes `code` that which a fault's instruction pointer points to. Returns what is to be emitted it before.
    pub fn find(&mut self, fault: &Fault, code: &mut Option<Code>) -> Option<TextRow> {
        let process = self.processes.get_mut(&fault.pid);
        let recent = process.as_ref().and_then(|process| process.recent(fault));
        if let Some(recent) = recent {
            let offset = fault.ip.wrapping_sub(recent.base);
            match code {
                Some(code) if Arc::ptr_eq(&code.object, &recent.object) => code.offset = offset,
                other => {
                    *other = Some(Code {
                        object: Arc::clone(&recent.object),
                        offset,
                    });
                }
            }
            return None;
        }
        let mut found = process.and_then(|process| process.search(fault));
        if found.is_none() && self.ask(fault.pid) {
            let process = self.processes.get_mut(&fault.pid);
            found = process.and_then(|process| process.search(fault));
        }
        let (found, reported) = found.unzip();
        *code = found;
        reported.flatten()
    }

    /// Asks what a process that was there before the recording has mapped, once. Whether something was learnt.
    fn ask(&mut self, pid: u32) -> bool {
        let Some(process) = self.processes.get_mut(&pid) else {
            return false;
        };
        if !std::mem::take(&mut process.is_unasked) {
            return false;
        }
        let mut mappings = match &mut self.look {
            Some(look) => look.mapped(pid),
            None => Vec::new(),
        };
        // What its faults have said is older, and of them.
        let texts = Arc::clone(&process.texts);
        mappings.retain(|mapping| {
            overlapping(&texts, mapping.start, mapping.end)
                .next()
                .is_none()
        });
        for mapping in &mappings {
            self.mapping(mapping, &mapping.path.as_str().into());
        }
        !mappings.is_empty()
    }
}

impl Process {
    /// The code of a fault, if it is among the recent.
    fn recent(&self, fault: &Fault) -> Option<&Recent> {
        self.recent.iter().flatten().find(|recent| {
            recent.start <= fault.ip && fault.ip < recent.end && recent.emitted_ns <= fault.time_ns
        })
    }

    /// As [`Codes::find`], for code that is not among the recent.
    fn search(&mut self, fault: &Fault) -> Option<(Code, Option<TextRow>)> {
        let Self { texts, emitted, .. } = self;
        let (&start, text) = texts.range(..=fault.ip).next_back()?;
        if fault.ip >= text.end {
            return None;
        }
        let base = text.base();
        let object = &text.object;
        let tell = match emitted.get(&object.name) {
            // The last row until a time counts: what comes out of its order, or with two of one time, cannot
            // be emitted.
            Some(emitted) if emitted.time_ns > fault.time_ns => return None,
            Some(emitted) if emitted.base == base && emitted.object == *object => false,
            Some(emitted) if emitted.time_ns == fault.time_ns => return None,
            _ => true,
        };
        let row = tell.then(|| {
            let new = Emitted {
                object: Arc::clone(object),
                base,
                time_ns: fault.time_ns,
            };
            emitted.insert(Arc::clone(&object.name), new);
            // What was found of the object may be elsewhere.
            self.recent = Default::default();
            TextRow {
                time_ns: fault.time_ns,
                cpu: fault.cpu,
                pid: fault.pid,
                tid: fault.tid,
                address: text.start,
                file_offset: text.offset,
                object: Arc::clone(object),
            }
        });
        let code = Code {
            object: Arc::clone(object),
            offset: fault.ip.wrapping_sub(base),
        };
        self.recent[self.oldest] = Some(Recent {
            start,
            end: text.end,
            base,
            emitted_ns: emitted
                .get(&object.name)
                .map_or(u64::MAX, |emitted| emitted.time_ns),
            object: Arc::clone(object),
        });
        self.oldest = (self.oldest + 1) % RECENT;
        Some((code, row))
    }
}

/// The mappings that share an address with a range.
fn overlapping(texts: &Texts, start: u64, end: u64) -> impl Iterator<Item = (&u64, &Text)> {
    let before = texts.range(..start).next_back();
    before
        .filter(|(_, text)| text.end > start)
        .into_iter()
        .chain(texts.range(start..end))
}

/// Takes a range out of the mappings; what lies around it stays.
fn cut(texts: &mut Texts, start: u64, end: u64) {
    let overlapping: Vec<_> = overlapping(texts, start, end).map(|(at, _)| *at).collect();
    for at in overlapping {
        let Some(text) = texts.remove(&at) else {
            continue;
        };
        if text.end > end {
            texts.insert(end, text.clone());
        }
        if at < start {
            texts.insert(at, Text { end: start, ..text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_client::MappedFile;
    use proptest::prelude::*;

    const CODE: u32 = mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC;

    /// The code of a fault, and what is emitted it before.
    fn of(codes: &mut Codes, fault: &Fault) -> Option<(Code, Option<TextRow>)> {
        let mut code = None;
        let reported = codes.find(fault, &mut code);
        assert!(code.is_some() || reported.is_none());
        code.map(|code| (code, reported))
    }

    /// A mapping of process 7, 8 or 9.
    fn mapping(pid: u32, start: u64, end: u64, offset: u64, flags: u32, path: &str) -> Mapping {
        Mapping {
            time_ns: 0,
            tid: pid,
            pid,
            number: 0,
            start,
            end,
            offset,
            inode: 1,
            device: 1,
            flags,
            path: path.into(),
            file: None,
        }
    }

    fn add(codes: &mut Codes, mapping: &Mapping) {
        codes.mapping(mapping, &mapping.path.as_str().into());
    }

    fn fault(pid: u32, ip: u64) -> Fault {
        Fault {
            time_ns: 5,
            pid,
            tid: pid,
            ip,
            ..Fault::default()
        }
    }

    /// Object and offset.
    fn code(codes: &mut Codes, pid: u32, ip: u64) -> Option<(String, u64)> {
        let (code, _) = of(codes, &fault(pid, ip))?;
        Some((code.object.name.to_string(), code.offset))
    }

    fn reported(codes: &mut Codes, pid: u32, ip: u64) -> Option<u64> {
        Some(of(codes, &fault(pid, ip))?.1?.base())
    }

    #[test]
    fn code_is_that_of_the_process_and_its_parent() {
        let mut codes = Codes::default();
        codes.begin(7, 7, Some(1));
        add(&mut codes, &mapping(7, 0x5000, 0x8000, 0x1000, CODE, "/a"));
        assert_eq!(code(&mut codes, 7, 0x5123), Some(("/a".into(), 0x1123)));
        assert_eq!(code(&mut codes, 7, 0x4fff), None);
        assert_eq!(code(&mut codes, 7, 0x8000), None);
        codes.begin(8, 8, Some(7));
        // What the child maps, its parent has not.
        add(&mut codes, &mapping(8, 0x9000, 0xa000, 0, CODE, "/b"));
        assert_eq!(code(&mut codes, 8, 0x7fff), Some(("/a".into(), 0x3fff)));
        assert_eq!(code(&mut codes, 8, 0x9000), Some(("/b".into(), 0)));
        assert_eq!(code(&mut codes, 7, 0x9000), None);
        codes.exec(8);
        assert_eq!(code(&mut codes, 8, 0x7fff), None);
        assert!(code(&mut codes, 7, 0x7fff).is_some());
    }

    #[test]
    fn an_object_is_told_once_in_each_process_and_program() {
        let mut codes = Codes::default();
        codes.begin(7, 7, Some(1));
        let text = mapping(7, 0x5000, 0x8000, 0x1000, CODE, "/a");
        add(&mut codes, &text);
        assert_eq!(reported(&mut codes, 7, 0x5000), Some(0x4000));
        add(&mut codes, &text);
        assert_eq!(reported(&mut codes, 7, 0x6000), None);
        codes.begin(8, 8, Some(7));
        assert_eq!(reported(&mut codes, 8, 0x6000), Some(0x4000));
        codes.exec(7);
        add(&mut codes, &mapping(7, 0xf000, 0x10000, 0, CODE, "/a"));
        assert_eq!(reported(&mut codes, 7, 0xf000), Some(0xf000));
        assert_eq!(code(&mut codes, 7, 0xf001), Some(("/a".into(), 1)));
    }

    #[test]
    fn an_object_at_two_places_is_reported_at_each_change() {
        let mut codes = Codes::default();
        add(&mut codes, &mapping(7, 0x5000, 0x6000, 0, CODE, "/a"));
        add(&mut codes, &mapping(7, 0x7000, 0x8000, 0, CODE, "/a"));
        let mut at = |time_ns, ip| {
            let fault = Fault {
                time_ns,
                ..fault(7, ip)
            };
            let (code, row) = of(&mut codes, &fault)?;
            assert_eq!((&*code.object.name, code.offset), ("/a", 1));
            Some(row.map(|row| row.base()))
        };
        assert_eq!(at(1, 0x5001), Some(Some(0x5000)));
        assert_eq!(at(2, 0x5001), Some(None));
        assert_eq!(at(3, 0x7001), Some(Some(0x7000)));
        // At the same time as the other, and before it.
        assert_eq!(at(3, 0x5001), None);
        assert_eq!(at(2, 0x7001), None);
        assert_eq!(at(4, 0x5001), Some(Some(0x5000)));
    }

    #[test]
    fn nothing_is_known_behind_missing_records_until_it_is_told_again() {
        let mut codes = Codes::default();
        let text = mapping(7, 0x5000, 0x6000, 0, CODE, "/a");
        add(&mut codes, &text);
        assert!(code(&mut codes, 7, 0x5001).is_some());
        codes.forget();
        assert_eq!(code(&mut codes, 7, 0x5001), None);
        add(&mut codes, &text);
        assert_eq!(code(&mut codes, 7, 0x5001), Some(("/a".into(), 1)));
    }

    #[test]
    fn what_is_mapped_over_is_gone() {
        let mut codes = Codes::default();
        add(&mut codes, &mapping(7, 0x1000, 0x9000, 0x1000, CODE, "/a"));
        let data = mapping_flag::READ | mapping_flag::WRITE;
        add(&mut codes, &mapping(7, 0x3000, 0x4000, 0, data, "[heap]"));
        add(&mut codes, &mapping(7, 0x5000, 0x6000, 0, CODE, "/b"));
        let names: Vec<_> = (1..9).map(|page| code(&mut codes, 7, page << 12)).collect();
        let a = |page: u64| Some(("/a".to_owned(), page << 12));
        let b = Some(("/b".to_owned(), 0));
        assert_eq!(names, [a(1), a(2), None, a(4), b, a(6), a(7), a(8)]);
    }

    #[test]
    fn a_process_is_forgotten_with_its_last_thread() {
        let mut codes = Codes::default();
        codes.begin(7, 7, Some(1));
        codes.begin(7, 70, Some(1));
        add(&mut codes, &mapping(7, 0x1000, 0x2000, 0, CODE, "/a"));
        codes.end(7);
        assert!(code(&mut codes, 7, 0x1000).is_some());
        codes.end(7);
        assert!(codes.processes.is_empty());
    }

    #[test]
    fn what_a_process_had_mapped_stays_when_its_first_thread_ends_before_the_others_are_known() {
        let mut codes = Codes::default();
        let text = mapping(7, 0x1000, 0x2000, 0, CODE, "/a");
        codes.listed(&text, &text.path.as_str().into());
        codes.begin(7, 7, None);
        codes.end(7);
        codes.begin(7, 70, None);
        assert_eq!(code(&mut codes, 7, 0x1001), Some(("/a".into(), 1)));
        // Another process has its id.
        codes.end(7);
        codes.begin(7, 7, Some(1));
        assert_eq!(code(&mut codes, 7, 0x1001), None);
        codes.end(7);
        assert!(codes.processes.is_empty());
    }

    /// Finds the same in every file.
    #[derive(Debug)]
    struct Same(ElfPlace);

    impl LookAtFile for Same {
        fn look(&mut self, _: &Mapping) -> ElfPlace {
            self.0.clone()
        }
    }

    /// What is known of an object's file where the kernel and a look at it say this.
    fn known(said: Option<&[u8]>, bias: Option<u64>, looked: ElfPlace) -> ElfPlace {
        let mut codes = Codes::looking(Box::new(Same(looked)));
        let mapping = Mapping {
            file: Some(MappedFile {
                generation: 0,
                build_id: said.map(<[u8]>::to_vec),
                bias,
            }),
            ..mapping(7, 0x1000, 0x2000, 0, CODE, "/a")
        };
        add(&mut codes, &mapping);
        let (code, _) = of(&mut codes, &fault(7, 0x1000)).unwrap();
        let object = &code.object;
        ElfPlace {
            build_id: object.build_id.clone(),
            bias: object.bias,
            changed_ns: object.file.unwrap().changed_ns,
            unwind: None,
        }
    }

    #[test]
    fn what_the_kernel_found_in_a_file_counts() {
        let read = |digits: &str| ElfPlace {
            build_id: BuildId::Of(digits.into()),
            bias: Some(5),
            changed_ns: Some(6),
            unwind: None,
        };
        let kernels = |bias| ElfPlace {
            build_id: BuildId::Of("0aff".into()),
            bias,
            changed_ns: None,
            unwind: None,
        };
        let id = Some(&[0x0a, 0xff][..]);
        assert_eq!(known(id, Some(9), read("0aff")), read("0aff"));
        // The file is gone; another has taken its place.
        assert_eq!(known(id, Some(9), ElfPlace::default()), kernels(Some(9)));
        assert_eq!(known(id, None, read("12")), kernels(None));
        let none = ElfPlace {
            build_id: BuildId::Absent,
            ..ElfPlace::default()
        };
        assert_eq!(known(Some(&[]), None, read("12")), none);
        // The kernel does not know.
        assert_eq!(known(None, None, read("12")), read("12"));
    }

    #[test]
    fn what_was_listed_gets_the_build_id_that_the_kernel_tells_later() {
        let mut codes = Codes::looking(Box::new(Same(ElfPlace::default())));
        let text = mapping(7, 0x1000, 0x2000, 0, CODE, "/a");
        codes.listed(&text, &text.path.as_str().into());
        let build_id = |codes: &mut Codes, time_ns| {
            let at = Fault {
                time_ns,
                ..fault(7, 0x1000)
            };
            of(codes, &at).unwrap().0.object.build_id.clone()
        };
        assert_eq!(build_id(&mut codes, 1), BuildId::Unread);
        let file = MappedFile {
            generation: 0,
            build_id: Some(vec![1]),
            bias: None,
        };
        let reported = Mapping {
            file: Some(file),
            ..text.clone()
        };
        add(&mut codes, &reported);
        assert_eq!(build_id(&mut codes, 2), BuildId::Of("01".into()));
        // Another CPU's record, for which the head of the file was no longer in memory.
        add(&mut codes, &text);
        assert_eq!(build_id(&mut codes, 3), BuildId::Of("01".into()));
    }

    #[test]
    fn the_vdso_is_an_object_and_code_without_a_file_is_none() {
        let mut codes = Codes::default();
        let flags = mapping_flag::READ | mapping_flag::EXEC;
        add(&mut codes, &mapping(7, 0x1000, 0x2000, 0, flags, VDSO));
        add(&mut codes, &mapping(7, 0x3000, 0x4000, 0, flags, ""));
        assert_eq!(code(&mut codes, 7, 0x1800), Some((VDSO.into(), 0x800)));
        assert_eq!(code(&mut codes, 7, 0x3800), None);
    }

    #[test]
    fn a_file_is_looked_at_when_its_mapping_is_new() {
        #[derive(Debug)]
        struct Looks(u64);
        impl LookAtFile for Looks {
            fn look(&mut self, _: &Mapping) -> ElfPlace {
                self.0 += 1;
                ElfPlace {
                    build_id: BuildId::Of(self.0.to_string().into()),
                    bias: Some(self.0),
                    changed_ns: Some(7),
                    unwind: None,
                }
            }
        }
        let mut codes = Codes::looking(Box::new(Looks(0)));
        let text = mapping(7, 0x1000, 0x2000, 0x1000, CODE, "/a");
        for _ in 0..2 {
            add(&mut codes, &text);
            let (code, _) = of(&mut codes, &fault(7, 0x1010)).unwrap();
            assert_eq!(code.object.build_id, BuildId::Of("1".into()));
            let file = FileId {
                device: 1,
                inode: 1,
                changed_ns: Some(7),
            };
            assert_eq!(code.object.file, Some(file));
        }
        // Another file of that name.
        add(&mut codes, &mapping(7, 0x1000, 0x3000, 0x1000, CODE, "/a"));
        let later = Fault {
            time_ns: 6,
            ..fault(7, 0x1010)
        };
        let (_, row) = of(&mut codes, &later).unwrap();
        let row = row.expect("it is reported anew");
        assert_eq!(row.object.build_id, BuildId::Of("2".into()));
        assert_eq!(row.elf_address(), Some(0x1002));
    }

    proptest! {
        /// Mappings as an array of pages says.
        #[test]
        fn the_last_mapping_of_a_page_counts(
            mappings in prop::collection::vec((0..32u64, 1..8u64, any::<bool>()), 0..40),
        ) {
            let mut codes = Codes::default();
            let mut pages = [None; 40];
            for (number, (first, count, is_code)) in mappings.into_iter().enumerate() {
                let flags = if is_code { CODE } else { mapping_flag::READ };
                let (start, end) = (first << 12, (first + count) << 12);
                add(&mut codes, &mapping(7, start, end, 0, flags, &number.to_string()));
                for (page, at) in (first..first + count).enumerate() {
                    pages[at as usize] = is_code.then_some((number, page as u64));
                }
            }
            for (at, page) in pages.into_iter().enumerate() {
                let found = code(&mut codes, 7, (at as u64) << 12);
                let expected = page.map(|(number, page)| (number.to_string(), page << 12));
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn processes_that_were_there_are_asked_once() {
        #[derive(Debug)]
        struct Asked(Arc<std::sync::atomic::AtomicU32>);
        impl LookAtFile for Asked {
            fn look(&mut self, _: &Mapping) -> ElfPlace {
                ElfPlace::default()
            }

            fn mapped(&mut self, pid: u32) -> Vec<Mapping> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                vec![
                    mapping(pid, 0x1000, 0x3000, 0, CODE, "/now"),
                    mapping(pid, 0x5000, 0x6000, 0, CODE, "/b"),
                ]
            }
        }
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let mut codes = Codes::looking(Box::new(Asked(Arc::clone(&asked))));
        let times = || asked.load(std::sync::atomic::Ordering::Relaxed);
        codes.begin(7, 7, None);
        codes.begin(8, 8, Some(7));
        add(&mut codes, &mapping(7, 0x2000, 0x4000, 0, CODE, "/then"));
        // Nobody is asked for what is known, nor a process that was made meanwhile.
        assert_eq!(code(&mut codes, 7, 0x2000).unwrap().0, "/then");
        assert_eq!(code(&mut codes, 8, 0x5000), None);
        assert_eq!(times(), 0);
        assert_eq!(code(&mut codes, 7, 0x5010), Some(("/b".into(), 0x10)));
        // What faults have said before counts.
        assert_eq!(code(&mut codes, 7, 0x1000), None);
        assert_eq!(code(&mut codes, 7, 0x2000).unwrap().0, "/then");
        assert_eq!(times(), 1);
        // After an exec, all is said by faults.
        codes.exec(7);
        assert_eq!(code(&mut codes, 7, 0x5010), None);
        assert_eq!(times(), 1);
    }
}
