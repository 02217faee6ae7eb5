// SPDX-License-Identifier: GPL-2.0-only

//! Which address space a fault was in.
//!
//! A process has another one after an exec. A fork's is laid out like its parent's, and so counts as the same:
//! addresses of both can be compared.

use fault_tracer_trace::ThreadEvent;
use rustc_hash::FxHashMap;

use crate::input::{Event, Thread};

/// The address spaces of processes by time.
pub struct Spaces {
    /// From when on a process is in which, in the order of time.
    of: FxHashMap<u32, Vec<(u64, u32)>>,
    count: u32,
}

impl Spaces {
    /// From events in the order of time, and all threads.
    pub fn new(events: &[Event], threads: &[Thread]) -> Self {
        let mut spaces = Self {
            of: FxHashMap::default(),
            count: 0,
        };
        for event in events {
            match event.what {
                ThreadEvent::Exec => {
                    spaces.first(event.pid);
                    let new = spaces.new_one();
                    spaces.enter(event.pid, event.time_ns, new);
                }
                ThreadEvent::Fork if event.tid == event.pid => {
                    spaces.first(event.parent);
                    let parents = spaces.at(event.parent, event.time_ns);
                    let from = match spaces.of.contains_key(&event.pid) {
                        // The id was used before.
                        true => event.time_ns,
                        false => 0,
                    };
                    spaces.enter(event.pid, from, parents);
                }
                _ => {}
            }
        }
        for thread in threads {
            spaces.first(thread.pid);
        }
        spaces
    }

    /// The address space of a process at a time; 0 for one without threads.
    pub fn at(&self, pid: u32, time_ns: u64) -> u32 {
        match self.of.get(&pid).map(Vec::as_slice) {
            None | Some([]) => 0,
            Some([(_, only)]) => *only,
            Some(several) => {
                let until = several.partition_point(|&(from, _)| from <= time_ns);
                several[until.saturating_sub(1)].1
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> u32 {
        self.count
    }

    fn new_one(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }

    fn first(&mut self, pid: u32) {
        if !self.of.contains_key(&pid) {
            let new = self.new_one();
            self.of.insert(pid, vec![(0, new)]);
        }
    }

    fn enter(&mut self, pid: u32, from: u64, space: u32) {
        self.of.entry(pid).or_default().push((from, space));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::NONE;

    fn event(time_ns: u64, what: ThreadEvent, pid: u32, parent: u32) -> Event {
        Event {
            time_ns,
            what,
            pid,
            tid: pid,
            name: NONE,
            parent,
        }
    }

    #[test]
    fn forks_share_and_execs_part() {
        let events = [
            event(10, ThreadEvent::Fork, 2, 1),
            event(20, ThreadEvent::Exec, 2, 1),
            event(30, ThreadEvent::Fork, 3, 2),
            event(40, ThreadEvent::Fork, 2, 1),
        ];
        let spaces = Spaces::new(&events, &[]);
        assert_eq!(spaces.at(1, 0), spaces.at(2, 15));
        assert_ne!(spaces.at(1, 0), spaces.at(2, 25));
        assert_eq!(spaces.at(3, 35), spaces.at(2, 25));
        assert_eq!(spaces.at(2, 45), spaces.at(1, 45), "the id came again");
        assert_eq!(spaces.count(), 2);
    }
}
