// SPDX-License-Identifier: GPL-2.0-only

//! Address spaces: a process from one `exec` to the next.

use std::collections::VecDeque;

use fault_tracer_trace::{Name, ResolvedFault, Row, ThreadEvent};
use rustc_hash::FxHashMap;

/// So many address spaces that have ended are remembered: rows of other threads may come behind the row of the end.
const ENDED_MOST: usize = 256;

/// How an address space came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there before the recording, or its beginning is not in the trace.
    Before,
    /// A copy of its parent's, by `fork`; or its parent's own, by `vfork` and `posix_spawn`.
    Fork,
    /// Empty, by `exec`.
    Exec,
}

/// An address space.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its process.
    pub pid: u32,
    /// How it came to be.
    pub origin: Origin,
    /// Whether it ended by an `exec`.
    pub replaced: bool,
    /// The program in it, if it is known.
    pub program: Option<Name>,
    /// The name of the process, if it is known: the last one.
    pub process: Option<Name>,
}

/// The address spaces of a trace, numbered in the order in which they are met.
#[derive(Clone, Debug, Default)]
pub struct Spaces {
    /// Of each process, the present one.
    current: FxHashMap<u32, u32>,
    spaces: Vec<Space>,
    /// Those that have ended and are still remembered, in the order of their ends.
    ended: VecDeque<u32>,
    /// The process of the last fault.
    last: Option<(u32, u32)>,
}

impl Spaces {
    /// Takes the rows of threads; others change nothing. Returns an address space of which nothing else will come, so
    /// that what is kept of its pages can be given up.
    pub fn add(&mut self, row: &Row) -> Option<u32> {
        let Row::Thread(row) = row else { return None };
        let origin = match row.event {
            ThreadEvent::Exec => Origin::Exec,
            ThreadEvent::Fork if row.tid == row.pid => Origin::Fork,
            ThreadEvent::Exit if row.tid == row.pid => {
                self.ended.extend(self.current.get(&row.pid));
                return self.forget();
            }
            _ => return None,
        };
        if let (Origin::Exec, Some(&old)) = (origin, self.current.get(&row.pid)) {
            self.spaces[old as usize].replaced = true;
            self.ended.push_back(old);
        }
        let program = row.program.clone().filter(|_| origin == Origin::Exec);
        self.begin(row.pid, origin, program, row.process.clone());
        self.forget()
    }

    fn forget(&mut self) -> Option<u32> {
        (self.ended.len() > ENDED_MOST)
            .then(|| self.ended.pop_front())
            .flatten()
    }

    /// The number of the address space of a fault.
    pub fn of(&mut self, fault: &ResolvedFault) -> u32 {
        let pid = fault.fault.pid;
        let number = match self.last {
            Some((last, number)) if last == pid => number,
            _ => match self.current.get(&pid) {
                Some(&number) => number,
                None => self.begin(pid, Origin::Before, None, None),
            },
        };
        self.last = Some((pid, number));
        let space = &mut self.spaces[number as usize];
        if space.program.is_none() {
            space.program.clone_from(&fault.program);
        }
        match (&space.process, &fault.process) {
            (Some(old), Some(new)) if Name::ptr_eq(old, new) => {}
            (_, Some(new)) => space.process = Some(Name::clone(new)),
            _ => {}
        }
        number
    }

    /// An address space by its number.
    ///
    /// # Panics
    ///
    /// If [`Spaces::of`] did not give that number.
    pub fn space(&self, number: u32) -> &Space {
        &self.spaces[number as usize]
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> &[Space] {
        &self.spaces
    }

    fn begin(
        &mut self,
        pid: u32,
        origin: Origin,
        program: Option<Name>,
        process: Option<Name>,
    ) -> u32 {
        // More than 2^32 address spaces do not fit into memory.
        let number = self.spaces.len() as u32;
        self.spaces.push(Space {
            pid,
            origin,
            replaced: false,
            program,
            process,
        });
        self.current.insert(pid, number);
        self.last = None;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, fault};

    #[test]
    fn an_exec_and_a_new_process_begin_one() {
        let mut spaces = Spaces::default();
        let of = |spaces: &mut Spaces| spaces.of(&fault().pid(7).build());
        let before = of(&mut spaces);
        spaces.add(&event(ThreadEvent::Fork, 7, 8));
        assert_eq!(of(&mut spaces), before, "a thread shares it");
        spaces.add(&event(ThreadEvent::Exec, 7, 7));
        let program = of(&mut spaces);
        assert_ne!(program, before);
        assert!(spaces.space(before).replaced && !spaces.space(program).replaced);
        spaces.add(&event(ThreadEvent::Fork, 7, 7));
        let reused = of(&mut spaces);
        assert_ne!(reused, program, "the id is another process's");
        let origins: Vec<_> = spaces.all().iter().map(|space| space.origin).collect();
        assert_eq!(origins, [Origin::Before, Origin::Exec, Origin::Fork]);
    }

    #[test]
    fn those_that_ended_are_given_up_in_their_order() {
        let mut spaces = Spaces::default();
        let mut given_up = Vec::new();
        for pid in 1..=ENDED_MOST as u32 + 2 {
            spaces.of(&fault().pid(pid).build());
            given_up.extend(spaces.add(&event(ThreadEvent::Exit, pid, pid)));
        }
        assert_eq!(given_up, [0, 1]);
    }
}
