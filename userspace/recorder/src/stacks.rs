// SPDX-License-Identifier: GPL-2.0-only

//! The callers of faults: each is reported once, and known by a number from then on.

use std::sync::Arc;

use fault_tracer_client::{Stack, StackContent};
use fault_tracer_trace::{Fault, FrameRow, Object, Row, FIRST_FRAME, OUTERMOST, UNKNOWN_CALLER};
use fault_tracer_uapi::stack_flag;
use rustc_hash::FxHashMap;

use crate::{
    code::Codes,
    unwind::{Copy, Unwinder},
};

/// Callers beyond this are cut off: a recursion that does not end has too many.
const FRAMES_MOST: usize = 1024;

/// All callers so far.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    /// By CPU: the stack of the fault that follows.
    next: Vec<Option<Box<Stack>>>,
    frames: FxHashMap<Frame, u32>,
    /// Objects by where they lie in memory, which they do not leave as long as they are here, and their numbers.
    objects: FxHashMap<usize, (Arc<Object>, u32)>,
    /// Objects that are equal have one number.
    numbers: FxHashMap<Arc<Object>, u32>,
    unwinder: Unwinder,
    /// Return addresses of the last stack: memory that is used again.
    addresses: Vec<u64>,
}

/// What makes a frame another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frame {
    caller: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// The number of an object, and an offset in it.
    Code(u32, u64),
    /// A process and an address.
    Unknown(u32, u64),
}

impl Stacks {
    /// Takes the stack of the fault that follows on a CPU.
    pub fn push(&mut self, cpu: u32, stack: Box<Stack>) {
        let cpu = cpu as usize;
        if self.next.len() <= cpu {
            self.next.resize_with(cpu + 1, || None);
        }
        self.next[cpu] = Some(stack);
    }

    /// The callers of a fault, if its stack was recorded. Those that are new are added to `out`.
    pub fn of(&mut self, fault: &Fault, codes: &mut Codes, out: &mut Vec<Row>) -> Option<u32> {
        let stack = self.next.get_mut(fault.cpu as usize)?.take()?;
        let is_its = (stack.tid, stack.time_ns) == (fault.tid, fault.time_ns);
        if !is_its || stack.flags & stack_flag::FOREIGN != 0 {
            return None;
        }
        let mut addresses = std::mem::take(&mut self.addresses);
        addresses.clear();
        let at_fault = Copy {
            ip: fault.ip,
            sp: stack.sp,
            frame: 0,
            words: &[],
            frames: &[],
            bottom: None,
        };
        let mut unwind = |copy: Copy<'_>| {
            self.unwinder
                .unwind(fault.pid, &copy, codes, FRAMES_MOST, &mut addresses)
        };
        let is_whole = match &stack.content {
            StackContent::Frames(frames) => {
                addresses.extend_from_slice(frames);
                stack.flags & stack_flag::WHOLE != 0
            }
            StackContent::Copy { frame, words } => unwind(Copy {
                frame: *frame,
                words,
                bottom: bottom(&stack, words),
                ..at_fault
            }),
            StackContent::Chain { frame, top, frames } => unwind(Copy {
                frame: *frame,
                words: top,
                frames,
                ..at_fault
            }),
        };
        let mut caller = if is_whole { OUTERMOST } else { UNKNOWN_CALLER };
        for &address in addresses.iter().rev() {
            caller = self.frame(address, caller, fault, codes, out);
        }
        self.addresses = addresses;
        Some(caller)
    }

    /// The number of a frame, which is reported if it is new.
    fn frame(
        &mut self,
        address: u64,
        caller: u32,
        fault: &Fault,
        codes: &mut Codes,
        out: &mut Vec<Row>,
    ) -> u32 {
        // The call is before the address to which it returns, which may belong to another function or mapping.
        let call = Fault {
            ip: address.wrapping_sub(1),
            ..*fault
        };
        let mut code = None;
        if let Some(text) = codes.find(&call, &mut code) {
            out.push(Row::Text(Box::new(text)));
        }
        let place = match &code {
            Some(code) => Place::Code(self.number(&code.object), code.offset),
            None => Place::Unknown(fault.pid, address),
        };
        let next = FIRST_FRAME.saturating_add(self.frames.len() as u32);
        let frame = Frame { caller, place };
        if let Some(&id) = self.frames.get(&frame) {
            return id;
        }
        self.frames.insert(frame, next);
        if let Some(code) = &mut code {
            code.offset = code.offset.wrapping_add(1);
        }
        out.push(Row::Frame(Box::new(FrameRow {
            time_ns: fault.time_ns,
            cpu: fault.cpu,
            pid: fault.pid,
            tid: fault.tid,
            id: next,
            caller,
            address,
            code,
        })));
        next
    }

    fn number(&mut self, object: &Arc<Object>) -> u32 {
        let place = Arc::as_ptr(object).addr();
        if let Some((_, number)) = self.objects.get(&place) {
            return *number;
        }
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(Arc::clone(object)).or_insert(next);
        self.objects.insert(place, (Arc::clone(object), number));
        number
    }
}

/// Where a stack begins, if the copy has all of it: its last word lies there, and is no return address.
fn bottom(stack: &Stack, words: &[u64]) -> Option<u64> {
    let before = words.len().checked_sub(1)?;
    (stack.flags & stack_flag::WHOLE != 0).then(|| stack.sp.wrapping_add(before as u64 * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(cpu_time: u64, flags: u32, frames: &[u64]) -> Box<Stack> {
        Box::new(Stack {
            time_ns: cpu_time,
            tid: 7,
            pid: 7,
            sp: 0x1000,
            flags,
            content: StackContent::Frames(frames.to_vec()),
        })
    }

    fn fault(time_ns: u64) -> Fault {
        Fault {
            time_ns,
            pid: 7,
            tid: 7,
            ..Fault::default()
        }
    }

    fn frames(rows: &[Row]) -> Vec<(u32, u32, u64)> {
        let frame = |row: &Row| match row {
            Row::Frame(frame) => Some((frame.id, frame.caller, frame.address)),
            _ => None,
        };
        rows.iter().filter_map(frame).collect()
    }

    #[test]
    fn callers_are_reported_once() {
        let (mut stacks, mut codes) = (Stacks::default(), Codes::default());
        let mut out = Vec::new();
        let mut of = |time, flags, frames: &[u64]| {
            stacks.push(0, stack(time, flags, frames));
            stacks.of(&fault(time), &mut codes, &mut out)
        };
        assert_eq!(of(1, stack_flag::WHOLE, &[30, 20, 10]), Some(4));
        assert_eq!(of(2, stack_flag::WHOLE, &[31, 20, 10]), Some(5));
        assert_eq!(of(3, stack_flag::WHOLE, &[20, 10]), Some(3));
        assert_eq!(of(4, stack_flag::CUT, &[20, 10]), Some(7));
        assert_eq!(of(5, stack_flag::WHOLE, &[]), Some(OUTERMOST));
        assert_eq!(of(6, stack_flag::BROKEN, &[]), Some(UNKNOWN_CALLER));
        assert_eq!(of(7, stack_flag::FOREIGN, &[]), None);
        assert_eq!(
            frames(&out),
            [
                (2, OUTERMOST, 10),
                (3, 2, 20),
                (4, 3, 30),
                (5, 3, 31),
                (6, UNKNOWN_CALLER, 10),
                (7, 6, 20)
            ]
        );
    }

    #[test]
    fn a_stack_belongs_to_the_next_fault_of_its_thread_alone() {
        let (mut stacks, mut codes) = (Stacks::default(), Codes::default());
        let mut out = Vec::new();
        stacks.push(1, stack(1, stack_flag::WHOLE, &[10]));
        assert_eq!(stacks.of(&fault(1), &mut codes, &mut out), None);
        let on_1 = |time| Fault {
            cpu: 1,
            ..fault(time)
        };
        assert_eq!(stacks.of(&on_1(2), &mut codes, &mut out), None);
        assert_eq!(stacks.of(&on_1(1), &mut codes, &mut out), None);
        stacks.push(1, stack(3, stack_flag::WHOLE, &[10]));
        assert_eq!(stacks.of(&on_1(3), &mut codes, &mut out), Some(2));
    }
}
