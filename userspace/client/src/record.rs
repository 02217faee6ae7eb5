// SPDX-License-Identifier: GPL-2.0-only

//! The records in a drained buffer, as typed values.
//!
//! Whatever the bytes are, reading them ends, and no length in them is believed.

use fault_tracer_uapi::{self as uapi, mapping_flag, record_type, stack_flag, FaultRecord};

use crate::merge::Timed;

const SLOT_WORDS: usize = uapi::SLOT_BYTES / 8;

/// Words of the longest record that there can be.
pub(crate) const LONGEST_RECORD_WORDS: usize = uapi::RECORD_SLOTS_MAX as usize * SLOT_WORDS;

/// A record whose length makes no sense: what follows it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "damaged record at word {word} of a drained buffer (header {header:#x}): please report this"
)]
pub struct Damaged {
    /// Where in the buffer, in words of 64 bits.
    pub word: usize,
    /// The record's first word.
    pub header: u64,
}

/// A mapping that faults of the same CPU refer to from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// See [`uapi::MappingRecord::time_ns`].
    pub time_ns: u64,
    /// Thread that faulted.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Number by which faults refer to it.
    pub number: u16,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset in the file of the first address, in bytes.
    pub offset: u64,
    /// Inode number, 0 without a file.
    pub inode: u64,
    /// Major number in the high, minor in the low 32 bits; 0 without a file.
    pub device: u64,
    /// See [`uapi::mapping_flag`].
    pub flags: u32,
    /// What `/proc/PID/maps` calls it, [escaped](uapi::names::escape).
    pub path: String,
    /// More of its file, of code.
    pub file: Option<MappedFile>,
}

/// Which file code is of, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// See [`uapi::MappedFile::generation`].
    pub generation: u32,
    /// The build id, empty if the file has none; `None` if that is not known.
    pub build_id: Option<Vec<u8>>,
    /// See [`uapi::MappedFile::bias`].
    pub bias: Option<u64>,
}

/// Why there is a [`Task`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// It was there when its process became a target.
    Present,
    /// Its parent has made it.
    Fork,
    /// It has executed a program.
    Exec,
    /// It has a new name.
    Rename,
    /// It was there when the session was stopped.
    Alive,
    /// By the session's rules it is traced no more.
    Left,
}

/// A thread and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Time of the event.
    pub time_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Process id of the parent.
    pub parent: u32,
    /// What happened.
    pub event: TaskEvent,
    /// Name of the thread, [escaped](uapi::names::escape).
    pub comm: String,
    /// Path of its program, [escaped](uapi::names::escape), of [`TaskEvent::Exec`] and [`TaskEvent::Present`].
    pub path: String,
    /// Its minor-fault counter.
    pub min_flt: u64,
    /// Its major-fault counter.
    pub maj_flt: u64,
    /// Of [`TaskEvent::Exec`], its thread id before; of [`TaskEvent::Fork`], the process that made it, which need
    /// not be its parent. Otherwise its thread id.
    pub from_id: u32,
}

/// A thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Time of its end.
    pub time_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its minor-fault counter.
    pub min_flt: u64,
    /// Its major-fault counter.
    pub maj_flt: u64,
}

/// Faults that found the ring full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Time of the first.
    pub first_ns: u64,
    /// Time of the last.
    pub last_ns: u64,
    /// How many.
    pub count: u64,
}

/// Records that were overwritten before they were read. Not a record of the module: a reader finds out, see
/// [`crate::Drained::gap_slots`], and puts this in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Time of the last record of that CPU before; 0 if there is none.
    pub since_ns: u64,
    /// Time of the first record behind.
    pub until_ns: u64,
    /// Slots that they took: there were at most so many faults.
    pub slots: u64,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// Time of the return.
    pub time_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Time of the fault, as its own record has it.
    pub entry_ns: u64,
    /// What the kernel's function returned, see [`uapi::fault_result`].
    pub result: u32,
    /// How many pages were mapped around the address meanwhile, beside its own, where that is known, see
    /// [`uapi::ReturnRecord::result`].
    pub around: Option<u32>,
    /// The page by which the address is translated then, see [`uapi::ReturnRecord::page`].
    pub page: u32,
}

/// The user stack of the fault that follows on the same CPU, as the module read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Time of that fault.
    pub time_ns: u64,
    /// Its thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// The stack pointer in user mode.
    pub sp: u64,
    /// See [`uapi::stack_flag`].
    pub flags: u32,
    /// What was read.
    pub content: StackContent,
}

/// What the module read of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackContent {
    /// The return addresses to which the frame pointers led, that of the faulting code first.
    Frames(Vec<u64>),
    /// A copy.
    Copy {
        /// The frame pointer in user mode.
        frame: u64,
        /// From the stack pointer on.
        words: Vec<u64>,
    },
    /// The frames, all of them.
    Chain {
        /// The frame pointer in user mode.
        frame: u64,
        /// The top, from the stack pointer on.
        top: Vec<u64>,
        /// Where each frame lies, and where it returns to, that of the faulting code first.
        frames: Vec<(u64, u64)>,
    },
}

/// A record of any type that this crate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A fault.
    Fault(FaultRecord),
    /// A mapping.
    Mapping(Box<Mapping>),
    /// A thread's beginning or name.
    Task(Box<Task>),
    /// A thread's end.
    Exit(Exit),
    /// A loss.
    Lost(Lost),
    /// A loss in mode overwrite.
    Overrun(Overrun),
    /// The end of a fault.
    Return(Return),
    /// The stack of a fault.
    Stack(Box<Stack>),
}

impl Timed for Record {
    fn time_ns(&self) -> u64 {
        match self {
            Self::Fault(fault) => fault.time_ns,
            Self::Mapping(mapping) => mapping.time_ns,
            Self::Task(task) => task.time_ns,
            Self::Exit(exit) => exit.time_ns,
            Self::Lost(lost) => lost.first_ns,
            Self::Overrun(overrun) => overrun.until_ns,
            Self::Return(end) => end.time_ns,
            Self::Stack(stack) => stack.time_ns,
        }
    }
}

impl Record {
    /// Reads the words of one record; `None` if its type is unknown, or it is shorter than its type
    /// asks for: a later version may define such a record, this one cannot read it.
    fn decode(words: &[u64]) -> Option<Self> {
        let header = *words.first()?;
        // CAST: masked to 22 bits.
        let tid = (header & uapi::PID_MASK) as u32;
        let pid = (header >> uapi::HEADER_TGID_SHIFT & uapi::PID_MASK) as u32;
        Some(match (uapi::header_type(header), words) {
            (record_type::FAULT, &[a, b, c, d]) => {
                Self::Fault(FaultRecord::from_words([a, b, c, d]))
            }
            (
                record_type::MAPPING,
                &[_, time_ns, start, end, offset, inode, device, packed, ref path @ ..],
            ) => Self::Mapping(Box::new(Mapping {
                time_ns,
                tid,
                pid,
                // CAST: the three fields of one word, in memory's order.
                number: packed as u16,
                start,
                end,
                offset,
                inode,
                device,
                flags: (packed >> 32) as u32,
                path: name(path, (packed >> 16) as u16 as usize),
                file: mapped_file((packed >> 32) as u32, path, (packed >> 16) as u16 as usize),
            })),
            (record_type::TASK, &[_, time_ns, origin, ref comm @ ..]) if comm.len() >= 5 => {
                let (comm, rest) = comm.split_at(2);
                let comm = bytes(comm);
                let end = comm
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(comm.len());
                // CAST: two fields of 32 bits each in a word, twice.
                Self::Task(Box::new(Task {
                    time_ns,
                    tid,
                    pid,
                    parent: origin as u32,
                    event: match (origin >> 32) as u32 {
                        uapi::task_event::PRESENT => TaskEvent::Present,
                        uapi::task_event::FORK => TaskEvent::Fork,
                        uapi::task_event::EXEC => TaskEvent::Exec,
                        uapi::task_event::RENAME => TaskEvent::Rename,
                        uapi::task_event::ALIVE => TaskEvent::Alive,
                        uapi::task_event::LEFT => TaskEvent::Left,
                        _ => return None,
                    },
                    comm: uapi::names::escape(&comm[..end]),
                    path: name(&rest[3..], rest[2] as u32 as usize),
                    min_flt: rest[0],
                    maj_flt: rest[1],
                    from_id: (rest[2] >> 32) as u32,
                }))
            }
            (record_type::EXIT, &[_, time_ns, min_flt, maj_flt, ..]) => Self::Exit(Exit {
                time_ns,
                tid,
                pid,
                min_flt,
                maj_flt,
            }),
            (record_type::RETURN, &[_, time_ns, entry_ns, result, ..]) => Self::Return(Return {
                time_ns,
                tid,
                pid,
                entry_ns,
                // CAST: the two halves of the word.
                result: result as u32 & uapi::RESULT_MASK,
                around: (result as u32 >> uapi::AROUND_SHIFT & uapi::AROUND_MASK).checked_sub(1),
                page: (result >> 32) as u32,
            }),
            (record_type::STACK, &[_, time_ns, what, sp, ref rest @ ..]) => {
                // CAST: the two halves of the word.
                let (count, flags) = (what as u32 as usize, (what >> 32) as u32);
                let content = if flags & stack_flag::CHAIN != 0 {
                    let (&frame, rest) = rest.split_first()?;
                    let room = uapi::STACK_CHAIN_TOP_BYTES as usize / 8;
                    let (top, pairs) = rest.split_at_checked(room)?;
                    let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                    StackContent::Chain {
                        frame,
                        top: top.get(..count / 8)?.to_vec(),
                        frames: pairs.take_while(|&(place, _)| place != 0).collect(),
                    }
                } else if flags & stack_flag::COPY == 0 {
                    StackContent::Frames(rest.get(..count)?.to_vec())
                } else {
                    let (&frame, words) = rest.split_first()?;
                    StackContent::Copy {
                        frame,
                        words: words.get(..count / 8)?.to_vec(),
                    }
                };
                Self::Stack(Box::new(Stack {
                    time_ns,
                    tid,
                    pid,
                    sp,
                    flags,
                    content,
                }))
            }
            (record_type::LOST, &[_, first_ns, last_ns, count, ..]) => Self::Lost(Lost {
                first_ns,
                last_ns,
                count,
            }),
            _ => return None,
        })
    }
}

/// Words as the bytes that lie in memory.
fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The name in the first `length` bytes of some words, or in all of them if they are fewer.
fn name(words: &[u64], length: usize) -> String {
    let bytes = bytes(words);
    uapi::names::escape(&bytes[..length.min(bytes.len())])
}

/// What stands behind a path of so many bytes in some words, if a mapping's flags say so.
fn mapped_file(flags: u32, words: &[u64], path_bytes: usize) -> Option<MappedFile> {
    if flags & mapping_flag::IDENTITY == 0 {
        return None;
    }
    let behind = words.get(path_bytes.div_ceil(uapi::SLOT_BYTES) * SLOT_WORDS..)?;
    let &[first, ref build_id @ .., bias, _, _] = behind.first_chunk::<{ 2 * SLOT_WORDS }>()?;
    let mut build_id = bytes(build_id);
    // CAST: the two fields of one word, in memory's order.
    let length = (first >> 32) as u32 as usize;
    let is_known = flags & mapping_flag::BUILD_ID != 0 && length <= build_id.len();
    build_id.truncate(length);
    Some(MappedFile {
        generation: first as u32,
        build_id: is_known.then_some(build_id),
        bias: (flags & mapping_flag::BIAS != 0).then_some(bias),
    })
}

/// Splits a drained buffer into the words of each record. After an `Err` it ends.
#[derive(Clone, Debug)]
struct Split<'a> {
    words: &'a [u64],
    next: usize,
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<&'a [u64], Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.words.get(self.next..)?;
        let header = *rest.first()?;
        let words = uapi::header_slots(header) as usize * SLOT_WORDS;
        if words == 0 || words > rest.len() {
            let word = self.next;
            self.next = self.words.len();
            return Some(Err(Damaged { word, header }));
        }
        self.next += words;
        Some(Ok(&rest[..words]))
    }
}

/// Iterates over the records of a drained buffer, skipping those of unknown types.
///
/// After an `Err` it ends.
#[derive(Clone, Debug)]
pub struct Records<'a>(Split<'a>);

impl<'a> Records<'a> {
    /// Reads what [`crate::Session::drain_cpu`] has written.
    pub fn new(words: &'a [u64]) -> Self {
        Self(Split { words, next: 0 })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // Nearly all are faults.
        let rest = self.0.words.get(self.0.next..)?;
        if let Some(&[a, b, c, d]) = rest.first_chunk() {
            if uapi::header_type(a) == record_type::FAULT {
                self.0.next += SLOT_WORDS;
                return Some(Ok(Record::Fault(FaultRecord::from_words([a, b, c, d]))));
            }
        }
        loop {
            match self.0.next()? {
                Ok(words) => {
                    if let Some(record) = Record::decode(words) {
                        return Some(Ok(record));
                    }
                }
                Err(damaged) => return Some(Err(damaged)),
            }
        }
    }
}

/// How many faults there are in whole records: what a consumer tells the module as delivered.
pub(crate) fn count_faults(words: &[u64]) -> Result<u64, Damaged> {
    let mut faults = 0;
    for record in (Split { words, next: 0 }) {
        faults += u64::from(uapi::header_type(record?[0]) == record_type::FAULT);
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(time: u64) -> [u64; 4] {
        let header =
            7 | 5 << uapi::HEADER_TGID_SHIFT | record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
        [header, time, 0x1000, 0x2000]
    }

    fn header(kind: u64, slots: u64) -> u64 {
        7 | 5 << uapi::HEADER_TGID_SHIFT
            | kind << uapi::HEADER_TYPE_SHIFT
            | slots << uapi::HEADER_SLOTS_SHIFT
    }

    fn other(kind: u64, slots: u64) -> Vec<u64> {
        let mut words = vec![u64::MAX; slots as usize * SLOT_WORDS];
        words[0] = header(kind, slots);
        words
    }

    /// A structure of the ABI, and a text behind it, as the module writes them.
    fn laid_out<T: Copy>(value: T, path: &str) -> Vec<u64> {
        let words = size_of::<T>() / 8;
        // SAFETY: The ABI's structures have no padding, and 8-byte alignment.
        let mut all =
            unsafe { std::slice::from_raw_parts((&raw const value).cast::<u64>(), words) }.to_vec();
        for chunk in path.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            all.push(u64::from_ne_bytes(word));
        }
        all.resize(all.len().next_multiple_of(SLOT_WORDS), 0);
        let slots = (all.len() / SLOT_WORDS) as u64;
        all[0] |= slots << uapi::HEADER_SLOTS_SHIFT;
        all
    }

    fn read(words: &[u64]) -> Vec<Record> {
        Records::new(words).map(Result::unwrap).collect()
    }

    fn times(words: &[u64]) -> Result<Vec<u64>, Damaged> {
        Records::new(words)
            .map(|record| Ok(record?.time_ns()))
            .collect()
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(times(&[]), Ok(vec![]));
    }

    #[test]
    fn faults_come_in_order_with_their_fields() {
        let words = [fault(1), fault(2)].concat();
        let records = read(&words);
        let [Record::Fault(first), Record::Fault(second)] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((first.tid(), first.pid()), (7, 5));
        assert_eq!((second.time_ns, second.address()), (2, 0x1000));
        assert_eq!(count_faults(&words), Ok(2));
    }

    #[test]
    fn mappings_are_read_as_they_are_laid_out() {
        for path in [
            "",
            "[heap]",
            "/usr/lib/x86_64-linux-gnu/libc.so.6 (deleted)",
            "/tmp/ä/12345678",
        ] {
            let words = laid_out(
                uapi::MappingRecord {
                    header: header(record_type::MAPPING, 0),
                    time_ns: 1,
                    start: 2,
                    end: 3,
                    offset: 4,
                    inode: 5,
                    device: 6,
                    number: 0x7fe,
                    path_bytes: path.len() as u16,
                    flags: 0x8000_0001,
                },
                path,
            );
            let expected = Mapping {
                time_ns: 1,
                tid: 7,
                pid: 5,
                number: 0x7fe,
                start: 2,
                end: 3,
                offset: 4,
                inode: 5,
                device: 6,
                flags: 0x8000_0001,
                path: path.into(),
                file: None,
            };
            assert_eq!(read(&words), [Record::Mapping(Box::new(expected))]);
        }
    }

    #[test]
    fn the_file_of_code_stands_behind_its_path() {
        let of = |path: &str, flags, file: &[u64]| {
            let record = uapi::MappingRecord {
                header: header(record_type::MAPPING, 0),
                time_ns: 1,
                start: 2,
                end: 3,
                offset: 4,
                inode: 5,
                device: 6,
                number: 0,
                path_bytes: path.len() as u16,
                flags,
            };
            let mut words = [&laid_out(record, path)[..], file].concat();
            let slots = (words.len() / SLOT_WORDS) as u64;
            words[0] = header(record_type::MAPPING, 0) & !(0xff << uapi::HEADER_SLOTS_SHIFT)
                | slots << uapi::HEADER_SLOTS_SHIFT;
            let [Record::Mapping(mapping)] = &read(&words)[..] else {
                panic!("{words:x?}")
            };
            assert_eq!(mapping.path, path);
            mapping.file.clone()
        };
        let both = mapping_flag::IDENTITY | mapping_flag::BUILD_ID;
        let word = u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
        for path in ["", "/a", "/tmp/0123456789012345678901234567"] {
            let reported = |build_id: Option<&[u8]>, bias| {
                Some(MappedFile {
                    generation: 9,
                    build_id: build_id.map(<[u8]>::to_vec),
                    bias,
                })
            };
            let of = |flags, words: [u64; 5], bias| {
                of(path, flags, &[&words[..], &[bias, 0, 0]].concat())
            };
            let id = &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2];
            let words = [9 | 10 << 32, word, word, 0, 0];
            assert_eq!(of(both, words, 7), reported(Some(id), None));
            let all = both | mapping_flag::BIAS;
            assert_eq!(of(all, words, 7), reported(Some(id), Some(7)));
            assert_eq!(of(all, [9, 0, 0, 0, 0], 0), reported(Some(&[]), Some(0)));
            assert_eq!(
                of(mapping_flag::IDENTITY, [9, 0, 0, 0, 0], 0),
                reported(None, None)
            );
            // Longer than there is room for.
            assert_eq!(
                of(both, [9 | 99 << 32, word, word, word, word], 0),
                reported(None, None)
            );
        }
        // Not there at all.
        assert_eq!(of("/a", both, &[]), None);
    }

    #[test]
    fn names_that_are_no_text_stay_apart() {
        let paths = [&b"/tmp/\xff"[..], b"/tmp/\xfe", b"/tmp/\n", b"/tmp/\\012"].map(|path| {
            let words: Vec<u64> = path
                .chunks(8)
                .map(|chunk| {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    u64::from_ne_bytes(word)
                })
                .collect();
            name(&words, path.len())
        });
        assert_eq!(
            paths,
            ["/tmp/\\377", "/tmp/\\376", "/tmp/\\012", "/tmp/\\134012"]
        );
    }

    #[test]
    fn returns_are_read_as_they_are_laid_out() {
        // Not known, none, those of a window but one, and the most that there is room for.
        for (told, around) in [(0, None), (1, Some(0)), (16, Some(15)), (0xfff, Some(4094))] {
            let result = uapi::fault_result::MAJOR | told << uapi::AROUND_SHIFT;
            let words = laid_out(
                uapi::ReturnRecord {
                    header: header(record_type::RETURN, 0),
                    time_ns: 9,
                    entry_ns: 4,
                    result,
                    page: 0x150c,
                },
                "",
            );
            assert_eq!(
                read(&words),
                [Record::Return(Return {
                    time_ns: 9,
                    tid: 7,
                    pid: 5,
                    entry_ns: 4,
                    result: uapi::fault_result::MAJOR,
                    around,
                    page: 0x150c,
                })]
            );
            assert_eq!(count_faults(&words), Ok(0));
        }
    }

    #[test]
    fn tasks_exits_and_losses_are_read_as_they_are_laid_out() {
        let mut words = laid_out(
            uapi::TaskRecord {
                header: header(record_type::TASK, 0),
                time_ns: 1,
                parent: 2,
                event: uapi::task_event::EXEC,
                comm: *b"sixteen bytes!\0x",
                min_flt: 3,
                maj_flt: 4,
                path_bytes: 7,
                from_id: 6,
            },
            "/bin/ls",
        );
        words.extend(laid_out(
            uapi::ExitRecord {
                header: header(record_type::EXIT, 0),
                time_ns: 8,
                min_flt: 9,
                maj_flt: 10,
            },
            "",
        ));
        words.extend(laid_out(
            uapi::LostRecord {
                header: record_type::LOST << uapi::HEADER_TYPE_SHIFT,
                time_ns: 11,
                last_ns: 12,
                count: 13,
            },
            "",
        ));
        assert_eq!(
            read(&words),
            [
                Record::Task(Box::new(Task {
                    time_ns: 1,
                    tid: 7,
                    pid: 5,
                    parent: 2,
                    event: TaskEvent::Exec,
                    comm: "sixteen bytes!".into(),
                    path: "/bin/ls".into(),
                    min_flt: 3,
                    maj_flt: 4,
                    from_id: 6,
                })),
                Record::Exit(Exit {
                    time_ns: 8,
                    tid: 7,
                    pid: 5,
                    min_flt: 9,
                    maj_flt: 10,
                }),
                Record::Lost(Lost {
                    first_ns: 11,
                    last_ns: 12,
                    count: 13,
                }),
            ]
        );
        assert_eq!(count_faults(&words), Ok(0));
    }

    #[test]
    fn unknown_types_and_padding_are_skipped() {
        let mut words = other(7, 3);
        words.extend(fault(1));
        words.extend(other(record_type::PAD, 1));
        words.extend(other(7, 2));
        words.extend(fault(2));
        assert_eq!(times(&words), Ok(vec![1, 2]));
    }

    #[test]
    fn a_record_shorter_than_its_type_is_skipped() {
        let mut words = other(record_type::MAPPING, 1);
        words.extend(other(record_type::TASK, 1));
        words.extend(fault(2));
        assert_eq!(times(&words), Ok(vec![2]));
    }

    #[test]
    fn a_length_of_zero_or_beyond_the_end_is_damage() {
        let mut words = fault(1).to_vec();
        words.extend(other(3, 1));
        words[4] = 3 << uapi::HEADER_TYPE_SHIFT;
        assert_eq!(
            times(&words),
            Err(Damaged {
                word: 4,
                header: words[4]
            })
        );
        let cut = &other(3, 2)[..SLOT_WORDS];
        assert_eq!(
            times(cut),
            Err(Damaged {
                word: 0,
                header: cut[0]
            })
        );
        let mut records = Records::new(cut);
        assert!(records.next().is_some_and(|record| record.is_err()));
        assert!(records.next().is_none(), "ends after damage");
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(
            headers in prop::collection::vec((0..16u64, 0..5u64, any::<u64>()), 0..20),
            noise in any::<u64>(),
        ) {
            let mut words = Vec::new();
            for (kind, slots, low) in headers {
                let mut record = vec![noise ^ low; slots.max(1) as usize * SLOT_WORDS];
                record[0] = header(kind, slots) ^ (low & 0xfff);
                words.extend(record);
            }
            let records = Records::new(&words).count();
            prop_assert!(records <= words.len() / SLOT_WORDS + 1);
        }
    }
}
