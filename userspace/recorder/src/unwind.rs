// SPDX-License-Identifier: GPL-2.0-only

//! Unwinds copies of stacks, or of their frames alone, by what the files say that code is in.
//!
//! Nothing is guessed: where no file says how a frame is left, the stack ends, and says so. Functions of Go keep frame
//! pointers, so that those are followed.

use std::{ops::Range, sync::Arc};

use fault_tracer_symbols::{Caller, FrameRule, Registers, UnwindTable};
use rustc_hash::FxHashMap;

use crate::code::Codes;

/// Of more processes than this it is not remembered how to unwind them.
const PROCESSES_MOST: usize = 256;

/// A copy of the top of a stack, more of its frames, and the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy<'a> {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer: where the copy begins.
    pub sp: u64,
    /// The frame pointer.
    pub frame: u64,
    /// What is there.
    pub words: &'a [u64],
    /// Where frames lie to which the frame pointers have led, and where each returns to: the outermost one is the last.
    pub frames: &'a [(u64, u64)],
    /// Where the stack begins: frames that leave it there are the outermost. `None` where that is not known.
    pub bottom: Option<u64>,
}

impl Copy<'_> {
    /// The word at an address, if it is there.
    fn read(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.sp)?;
        if offset % 8 != 0 {
            return None;
        }
        let index = usize::try_from(offset / 8).ok()?;
        self.words
            .get(index)
            .copied()
            .or_else(|| self.read_frame(address))
    }

    /// The word at an address, if it is one of the two of a frame.
    fn read_frame(&self, address: u64) -> Option<u64> {
        // Each frame lies above the one that it has called.
        let behind = self.frames.partition_point(|&(place, _)| place <= address);
        let &(place, returns_to) = self.frames.get(behind.checked_sub(1)?)?;
        match address.wrapping_sub(place) {
            0 => Some(self.frames.get(behind).map_or(0, |&(next, _)| next)),
            8 => Some(returns_to),
            _ => None,
        }
    }
}

/// What is known of how to unwind processes.
#[derive(Debug, Default)]
pub(crate) struct Unwinder {
    processes: FxHashMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    /// As [`Codes::texts`] counts.
    changed: u64,
    /// Code of files that say how it is unwound, in order.
    known: Vec<Known>,
    /// How frames of the code at an address are left.
    rules: FxHashMap<u64, Rule>,
}

#[derive(Debug)]
struct Known {
    addresses: Range<u64>,
    /// Where the file's address 0 would lie.
    base: u64,
    table: Arc<UnwindTable>,
}

/// How a frame is left.
#[derive(Debug)]
enum Rule {
    /// As the file says.
    Said(FrameRule),
    /// By the frame pointer.
    FramePointer,
    /// That is not known.
    Unknown,
}

/// Of more addresses than this it is not remembered how their frames are left.
const RULES_MOST: usize = 1 << 16;

impl Unwinder {
    /// Puts the return addresses of a stack of a process into `out`, the nearest first, at most so many. Whether they
    /// reach the outermost frame.
    pub fn unwind(
        &mut self,
        pid: u32,
        stack: &Copy<'_>,
        codes: &Codes,
        most: usize,
        out: &mut Vec<u64>,
    ) -> bool {
        let Some((changed, texts)) = codes.texts(pid) else {
            return false;
        };
        let is_new = self
            .processes
            .get(&pid)
            .is_none_or(|process| process.changed != changed);
        if is_new {
            if self.processes.len() >= PROCESSES_MOST {
                self.processes.clear();
            }
            let known = texts.filter_map(|(start, text)| {
                let (base, table) = text.unwind()?;
                Some(Known {
                    addresses: text.range(start),
                    base,
                    table: Arc::clone(table),
                })
            });
            let process = Process {
                changed,
                known: known.collect(),
                rules: FxHashMap::default(),
            };
            self.processes.insert(pid, process);
        }
        match self.processes.get_mut(&pid) {
            Some(process) => process.unwind(stack, most, out),
            None => false,
        }
    }
}

impl Process {
    fn unwind(&mut self, stack: &Copy<'_>, most: usize, out: &mut Vec<u64>) -> bool {
        let read = |address: u64| stack.read(address);
        let mut registers = Registers::new(stack.ip, stack.sp, stack.frame);
        let mut address = stack.ip;
        loop {
            let is_outermost = |bottom| registers.sp().is_some_and(|sp| sp >= bottom);
            if stack.bottom.is_some_and(is_outermost) {
                return true;
            }
            let caller = match self.rule(address) {
                Rule::Said(rule) => rule.leave(&mut registers, &read),
                Rule::FramePointer => follow(&mut registers, &read),
                Rule::Unknown => None,
            };
            // What is behind the place that counts, as it is behind a call: whoever reads it looks one byte before.
            let behind = match caller {
                None => return false,
                Some(Caller::None) => return true,
                Some(_) if out.len() >= most => return false,
                // The kernel's code behind a signal's handler was not called by it, and begins there.
                Some(Caller::Call(caller)) if self.is_of_a_signal(caller.wrapping_sub(1)) => {
                    caller.wrapping_add(1)
                }
                Some(Caller::Call(caller)) => caller,
                Some(Caller::Interrupted(caller)) => caller.wrapping_add(1),
            };
            out.push(behind);
            address = behind.wrapping_sub(1);
        }
    }

    fn is_of_a_signal(&mut self, address: u64) -> bool {
        matches!(self.rule(address), Rule::Said(rule) if rule.is_signal())
    }

    /// How a frame of the code at an address is left.
    fn rule(&mut self, address: u64) -> &Rule {
        if self.rules.len() >= RULES_MOST {
            self.rules.clear();
        }
        let known = &self.known;
        self.rules
            .entry(address)
            .or_insert_with(|| look_up(known, address))
    }
}

fn look_up(known: &[Known], address: u64) -> Rule {
    let behind = known.partition_point(|known| known.addresses.start <= address);
    let before = behind.checked_sub(1).and_then(|index| known.get(index));
    let Some(known) = before.filter(|known| known.addresses.contains(&address)) else {
        return Rule::Unknown;
    };
    match known.table.rule(address.wrapping_sub(known.base)) {
        Some(rule) => Rule::Said(rule),
        None if known.table.is_go && !known.table.has_rules() => Rule::FramePointer,
        None => Rule::Unknown,
    }
}

/// Leaves a frame whose function keeps a frame pointer.
fn follow(registers: &mut Registers, read: &dyn Fn(u64) -> Option<u64>) -> Option<Caller> {
    let frame = registers.frame()?;
    if frame == 0 {
        return Some(Caller::None);
    }
    if frame < registers.sp()? {
        return None;
    }
    let (next, address) = (read(frame)?, read(frame.wrapping_add(8))?);
    *registers = Registers::new(address, frame.wrapping_add(16), next);
    Some(match address {
        0 => Caller::None,
        address => Caller::Call(address),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ElfPlace, LookAtFile};
    use fault_tracer_client::Mapping;
    use fault_tracer_trace::BuildId;
    use fault_tracer_uapi::mapping_flag;

    /// Says of each file that it is of the Go compiler, or that nothing is known of its frames.
    #[derive(Debug)]
    struct Files {
        is_go: bool,
    }

    impl LookAtFile for Files {
        fn look(&mut self, _: &Mapping) -> ElfPlace {
            let mut table = UnwindTable::default();
            table.is_go = self.is_go;
            ElfPlace {
                build_id: BuildId::Absent,
                bias: Some(0),
                changed_ns: None,
                unwind: Some(Arc::new(table)),
            }
        }
    }

    /// The return addresses of a stack at 0x7000 in a program at 0x1000, and whether they are all.
    fn unwound(is_go: bool, frame: u64, words: &[u64]) -> (Vec<u64>, bool) {
        unwound_by(is_go, frame, words, &[])
    }

    fn unwound_by(
        is_go: bool,
        frame: u64,
        words: &[u64],
        frames: &[(u64, u64)],
    ) -> (Vec<u64>, bool) {
        let mut codes = Codes::looking(Box::new(Files { is_go }));
        let mapping = Mapping {
            time_ns: 0,
            tid: 7,
            pid: 7,
            number: 0,
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            inode: 1,
            device: 1,
            flags: mapping_flag::FILE | mapping_flag::READ | mapping_flag::EXEC,
            path: "/program".into(),
            file: None,
        };
        codes.mapping(&mapping, &"/program".into());
        let stack = Copy {
            ip: 0x1100,
            sp: 0x7000,
            frame,
            words,
            frames,
            bottom: None,
        };
        let mut out = Vec::new();
        let whole = Unwinder::default().unwind(7, &stack, &codes, 100, &mut out);
        (out, whole)
    }

    /// A frame at 0x7008, called by one at 0x7020, which nobody called.
    const FRAMES: [u64; 6] = [9, 0x7020, 0x1200, 9, 0, 0x1300];

    #[test]
    fn functions_of_go_keep_frame_pointers() {
        assert_eq!(unwound(true, 0x7008, &FRAMES), (vec![0x1200, 0x1300], true));
        // A frame below the stack, one beyond what is copied, and a caller in code that nothing is known of.
        assert_eq!(unwound(true, 0x6ff8, &FRAMES), (vec![], false));
        assert_eq!(unwound(true, 0x7008, &FRAMES[..3]), (vec![0x1200], false));
        let elsewhere = [9, 0x7020, 0x9000, 9, 0, 0x1300];
        assert_eq!(unwound(true, 0x7008, &elsewhere), (vec![0x9000], false));
    }

    #[test]
    fn frames_stand_for_the_stack_that_they_are_of() {
        let frames = [(0x7008, 0x1200), (0x7020, 0x1300)];
        let whole = (vec![0x1200, 0x1300], true);
        assert_eq!(unwound_by(true, 0x7008, &[9], &frames), whole);
        assert_eq!(unwound_by(true, 0x7008, &FRAMES[..3], &frames), whole);
        // Words between them are not known.
        let broken = unwound_by(true, 0x7010, &[9], &frames);
        assert_eq!(broken, (vec![], false));
        assert_eq!(unwound_by(false, 0x7008, &[9], &frames), (vec![], false));
    }

    #[test]
    fn nothing_is_guessed() {
        assert_eq!(unwound(false, 0x7008, &FRAMES), (vec![], false));
    }
}
