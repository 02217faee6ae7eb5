// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer top`: counts of an interval, and what is seen of them.

use std::{cmp::Reverse, collections::HashMap, collections::VecDeque, io, time::Duration};

use fault_tracer_analysis::fault_of;
use fault_tracer_recorder::Consumer;
use fault_tracer_trace::{Fate, Kind, Name, ResolvedFault, Row};

use ratatui::Frame;

use crate::{
    screen::Asked,
    showing::{Interval as Ended, Shown},
    text,
};

pub mod screen;

/// Rates that are remembered.
const HISTORY: usize = 240;

/// Faults of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub faults: u64,
    /// Major ones.
    pub major: u64,
    /// Their time, in nanoseconds; 0 where it is not recorded.
    pub time_ns: u64,
}

impl Count {
    fn add(&mut self, fault: &ResolvedFault) {
        self.faults += 1;
        self.major += u64::from(fault.fate == Fate::Major);
        self.time_ns += fault.duration_ns.unwrap_or(0);
    }
}

/// What the lists are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// All faults.
    #[default]
    Faults,
    /// Major ones.
    Major,
    /// Time in faults.
    Time,
}

/// Counts the faults of the present interval.
#[derive(Debug, Default)]
pub struct Counting {
    all: Count,
    kinds: [Count; Kind::ALL.len()],
    processes: HashMap<u32, (Option<Name>, Count)>,
    mappings: HashMap<Option<Name>, Count>,
    total: u64,
}

/// What an interval came to.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// How long it was.
    pub length: Duration,
    /// All of it.
    pub all: Count,
    /// The kinds that there are, the most frequent first.
    pub kinds: Vec<(Kind, Count)>,
    /// Processes by id and name.
    pub processes: Vec<(u32, Option<Name>, Count)>,
    /// Mappings by name.
    pub mappings: Vec<(Option<Name>, Count)>,
    /// Faults since the beginning.
    pub total: u64,
    /// Faults that were lost since the beginning.
    pub lost: u64,
}

impl Counting {
    /// Counts a row.
    fn add(&mut self, row: &Row) {
        let Some(fault) = fault_of(row) else {
            return;
        };
        self.total += 1;
        self.all.add(fault);
        self.kinds[fault.kind as usize].add(fault);
        let process = self.processes.entry(fault.fault.pid).or_default();
        process.0.clone_from(&fault.process);
        process.1.add(fault);
        let mapping = fault.place.as_ref().map(|place| &place.name);
        self.mappings
            .entry(mapping.cloned())
            .or_default()
            .add(fault);
    }

    /// Ends the interval and begins the next.
    pub fn take(&mut self, length: Duration, lost: u64) -> Interval {
        let Self {
            all,
            kinds,
            processes,
            mappings,
            total,
        } = self;
        let counted = std::mem::take(kinds);
        let mut kinds: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, counted[kind as usize]))
            .filter(|kind| kind.1.faults != 0)
            .collect();
        kinds.sort_by_key(|kind| Reverse(kind.1.faults));
        Interval {
            length,
            all: std::mem::take(all),
            kinds,
            processes: processes
                .drain()
                .map(|(pid, (name, count))| (pid, name, count))
                .collect(),
            mappings: mappings.drain().collect(),
            total: *total,
            lost,
        }
    }
}

impl Interval {
    /// Sorts the lists; what is equal by its name.
    pub fn sort(&mut self, sort: Sort) {
        let rank = |count: &Count| {
            let first = match sort {
                Sort::Faults => count.faults,
                Sort::Major => count.major,
                Sort::Time => count.time_ns,
            };
            Reverse((first, count.faults))
        };
        self.processes
            .sort_by_key(|(pid, _, count)| (rank(count), *pid));
        self.mappings
            .sort_by(|one, other| (rank(&one.1), &one.0).cmp(&(rank(&other.1), &other.0)));
    }

    /// So many in a second.
    pub fn rate(&self, count: u64) -> u64 {
        let seconds = self.length.as_secs_f64();
        if seconds == 0.0 {
            return 0;
        }
        // CAST: a rate is far from 2^64.
        (count as f64 / seconds).round() as u64
    }
}

/// Counts, and shows what it came to.
#[derive(Debug, Default)]
pub struct Top {
    /// The present interval.
    pub counting: Counting,
    /// What is seen.
    pub view: View,
}

impl Consumer for Top {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.counting.add(row);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown for Top {
    fn interval(&mut self, ended: &Ended) {
        self.view.show(self.counting.take(ended.length, ended.lost));
    }

    fn text(&self) -> String {
        text::top::batch(&self.view)
    }

    fn draw(&self, frame: &mut Frame<'_>, colour: bool) {
        screen::draw(frame, &self.view, colour);
    }

    fn typed(&mut self, letter: char) -> Asked {
        self.view.typed(letter)
    }
}

/// What is seen.
#[derive(Debug, Default)]
pub struct View {
    /// What is traced, in words.
    pub what: String,
    /// The last interval that ended.
    pub interval: Interval,
    /// Rates of the intervals, the last one last.
    pub history: VecDeque<u64>,
    /// How the lists are sorted.
    pub sort: Sort,
    /// The view stands still; counting goes on.
    pub paused: bool,
    /// The keys are explained.
    pub help: bool,
    /// Whether there are times.
    pub latency: bool,
}

impl View {
    /// Shows a new interval, unless the view stands still.
    pub fn show(&mut self, interval: Interval) {
        if self.paused {
            return;
        }
        self.history.push_back(interval.rate(interval.all.faults));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.interval = interval;
        self.interval.sort(self.sort);
    }

    /// A letter was typed.
    pub fn typed(&mut self, letter: char) -> Asked {
        let sort = match letter {
            'q' | 'Q' => return Asked::End,
            'p' | ' ' => {
                self.paused = !self.paused;
                return Asked::Nothing;
            }
            'h' | '?' => {
                self.help = !self.help;
                return Asked::Nothing;
            }
            'f' => Sort::Faults,
            'm' => Sort::Major,
            't' if self.latency => Sort::Time,
            _ => return Asked::Nothing,
        };
        self.sort = sort;
        self.interval.sort(sort);
        Asked::Nothing
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fault_tracer_trace::{Fault, Place};

    /// A view of an interval of two seconds.
    pub fn view() -> View {
        let mut counting = Counting::default();
        let mut add = |pid: u32, process: &str, mapping: &str, fate, duration_ns, times| {
            for _ in 0..times {
                let fault = ResolvedFault {
                    fault: Fault {
                        pid,
                        ..Fault::default()
                    },
                    process: Some(process.into()),
                    place: Some(Place {
                        name: mapping.into(),
                        permissions: "rw-p".into(),
                        file_offset: None,
                    }),
                    kind: if fate == Fate::Major {
                        Kind::FileRead
                    } else {
                        Kind::ZeroFill
                    },
                    fate,
                    duration_ns: Some(duration_ns),
                    ..ResolvedFault::default()
                };
                counting.add(&Row::Fault(Box::new(fault)));
            }
        };
        add(42, "cc1", "[heap]", Fate::Minor, 1_000, 3000);
        add(7, "postgres", "/var/lib/db", Fate::Major, 100_000, 10);
        add(7, "postgres", "[heap]", Fate::Minor, 500, 100);
        add(9, "x", "[heap]", Fate::Retried, 500, 100);
        let mut view = View {
            what: "all processes".into(),
            latency: true,
            ..View::default()
        };
        view.show(counting.take(Duration::from_secs(2), 5));
        assert!(counting.processes.is_empty() && counting.all == Count::default());
        assert_eq!(counting.take(Duration::ZERO, 5).total, 3110);
        view
    }

    #[test]
    fn an_interval_counts_and_begins_anew() {
        let view = view();
        let interval = &view.interval;
        assert_eq!((interval.all.faults, interval.all.major), (3110, 10));
        assert_eq!(interval.rate(interval.all.faults), 1555);
        assert_eq!(interval.kinds[0].0, Kind::ZeroFill);
        assert_eq!(interval.processes[0].0, 42);
        assert_eq!(interval.mappings[0].1.faults, 3100);
        assert_eq!((interval.total, interval.lost), (3110, 5));
        assert_eq!(view.history, [1555]);
    }

    #[test]
    fn keys() {
        let mut view = view();
        assert_eq!(view.typed('m'), Asked::Nothing);
        assert_eq!(view.interval.processes[0].0, 7);
        view.typed('f');
        assert_eq!(view.interval.processes[0].0, 42);
        view.typed('t');
        assert_eq!(view.interval.processes[0].0, 42, "3 ms against 1.05 ms");
        assert_eq!(view.interval.mappings[0].0.as_deref(), Some("[heap]"));
        view.typed('p');
        view.show(Interval::default());
        assert_eq!(view.interval.all.faults, 3110, "it stands still");
        view.typed('h');
        assert!(view.help && view.paused);
        assert_eq!(view.typed('q'), Asked::End);
        view.latency = false;
        view.typed('f');
        view.typed('t');
        assert_eq!(view.sort, Sort::Faults, "there are no times");
    }
}
