// SPDX-License-Identifier: GPL-2.0-only

//! The callers of faults, put together again from the frames of a trace.

use crate::{FrameRow, FIRST_FRAME, OUTERMOST};

/// The frames of a trace so far.
#[derive(Debug, Default)]
pub struct Stacks {
    /// By their ids, from [`FIRST_FRAME`] on, and whether all callers are known from there on. A damaged trace may lack some.
    frames: Vec<Option<(FrameRow, bool)>>,
}

/// Frames with higher ids than this are not kept: a damaged trace must not take all memory.
const FRAMES_MOST: usize = 1 << 24;

impl Stacks {
    /// Takes a frame.
    pub fn add(&mut self, frame: &FrameRow) {
        let Some(index) = index_of(frame.id).filter(|&index| index < FRAMES_MOST) else {
            return;
        };
        if self.frames.len() <= index {
            self.frames.resize(index + 1, None);
        }
        // As in `callers`, a frame is reported behind its caller.
        let is_whole = frame.caller < frame.id && self.is_whole(frame.caller);
        self.frames[index] = Some((frame.clone(), is_whole));
    }

    /// The frame of an id.
    pub fn frame(&self, id: u32) -> Option<&FrameRow> {
        self.get(id).map(|(frame, _)| frame)
    }

    fn get(&self, id: u32) -> Option<&(FrameRow, bool)> {
        self.frames.get(index_of(id)?)?.as_ref()
    }

    /// The frames from one on outwards: the caller of the faulting code comes first.
    pub fn callers(&self, stack: u32) -> impl Iterator<Item = &FrameRow> {
        std::iter::successors(self.frame(stack), |frame| {
            // A frame is reported behind its caller, so that this ends, whatever a damaged trace says.
            let caller = Some(frame.caller).filter(|&caller| caller < frame.id)?;
            self.frame(caller)
        })
    }

    /// Whether all callers of a stack are known, up to where the thread began.
    pub fn is_whole(&self, stack: u32) -> bool {
        stack == OUTERMOST || self.get(stack).is_some_and(|(_, is_whole)| *is_whole)
    }
}

fn index_of(id: u32) -> Option<usize> {
    id.checked_sub(FIRST_FRAME).map(|index| index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UNKNOWN_CALLER;

    fn frame(id: u32, caller: u32) -> FrameRow {
        FrameRow {
            time_ns: 0,
            cpu: 0,
            pid: 1,
            tid: 1,
            id,
            caller,
            address: u64::from(id) * 16,
            code: None,
        }
    }

    fn stacks(frames: &[(u32, u32)]) -> Stacks {
        let mut stacks = Stacks::default();
        for &(id, caller) in frames {
            stacks.add(&frame(id, caller));
        }
        stacks
    }

    fn ids(stacks: &Stacks, stack: u32) -> Vec<u32> {
        stacks.callers(stack).map(|frame| frame.id).collect()
    }

    #[test]
    fn callers_come_from_the_inside_out() {
        let stacks = stacks(&[(2, OUTERMOST), (3, 2), (4, 2), (5, 4), (6, UNKNOWN_CALLER)]);
        assert_eq!(ids(&stacks, 5), [5, 4, 2]);
        assert_eq!(ids(&stacks, 3), [3, 2]);
        assert!(stacks.is_whole(5) && stacks.is_whole(OUTERMOST));
        assert!(!stacks.is_whole(6) && !stacks.is_whole(UNKNOWN_CALLER));
        assert!(ids(&stacks, OUTERMOST).is_empty());
    }

    #[test]
    fn damaged_frames_end() {
        let stacks = stacks(&[(2, 3), (3, 2), (4, 4), (u32::MAX, 2), (0, 0), (7, 6)]);
        assert_eq!(ids(&stacks, 3), [3, 2]);
        assert_eq!(ids(&stacks, 4), [4]);
        assert_eq!(ids(&stacks, 7), [7]);
        assert!(ids(&stacks, u32::MAX).is_empty());
        assert!(!stacks.is_whole(7) && !stacks.is_whole(4));
    }
}
