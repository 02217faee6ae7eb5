// SPDX-License-Identifier: GPL-2.0-only

//! Faults in groups: by process, by mapping and kind, by any keys.

use std::cmp::Reverse;

use fault_tracer_trace::{Access, Fate, Kind, Name, PageSize, ResolvedFault};
use rustc_hash::FxHashMap;

use crate::{
    counts::{Counts, Powers},
    keys::{Context, Found, Key, Value},
    names::Names,
};

/// Groups by some keys.
#[derive(Debug)]
pub struct Groups {
    keys: Vec<Key>,
    /// Steps of [`Key::Time`], in nanoseconds.
    step_ns: u64,
    page_size: PageSize,
    names: Names,
    numbers: FxHashMap<Box<[u64]>, u32>,
    groups: Vec<Counted>,
    /// Pages of groups, by address space, then group and 64 pages, a bit for each.
    pages: FxHashMap<u32, FxHashMap<(u32, u64), u64>>,
    /// The key of the fault that is added, kept for its memory.
    scratch: Vec<u64>,
}

#[derive(Debug, Default)]
struct Counted {
    counts: Counts,
    pages: u64,
    powers: Option<Box<Powers>>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The values of the keys.
    pub values: Vec<Value>,
    /// Its faults.
    pub counts: Counts,
    /// Different pages of its completed faults.
    pub pages: u64,
    /// Its durations; `None` where there are none.
    pub powers: Option<Powers>,
}

/// What groups are sorted by: the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By faults.
    #[default]
    Faults,
    /// By time in faults.
    Time,
    /// By different pages.
    Pages,
}

const UNKNOWN: u64 = u64::MAX;

impl Groups {
    /// Groups by these keys, of a machine with such pages. Those by time are of steps of so many nanoseconds (1 or more).
    pub fn new(keys: &[Key], step_ns: u64, page_size: PageSize) -> Self {
        Self {
            keys: keys.to_vec(),
            step_ns: step_ns.max(1),
            page_size,
            names: Names::default(),
            numbers: FxHashMap::default(),
            groups: Vec::new(),
            pages: FxHashMap::default(),
            scratch: Vec::new(),
        }
    }

    /// How large the pages are that are counted.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a fault of an address space (see [`crate::Spaces`]).
    pub fn add(&mut self, fault: &ResolvedFault, space: u32, context: &mut Context) {
        self.scratch.clear();
        for key in &self.keys {
            let number = match key.find(fault, context) {
                Found::Unknown => UNKNOWN,
                Found::Number(number) if *key == Key::Time => number / self.step_ns,
                Found::Number(number) => number,
                Found::Constant(_, index) => index.into(),
                Found::Name(name) => self.names.number(name).into(),
                Found::Object(object) => self.names.number(&object.name).into(),
                Found::Made(name) => self.names.number(&name).into(),
            };
            self.scratch.push(number);
        }
        let number = match self.numbers.get(self.scratch.as_slice()) {
            Some(number) => *number,
            None => {
                let number = self.groups.len() as u32;
                self.groups.push(Counted::default());
                self.numbers
                    .insert(self.scratch.clone().into_boxed_slice(), number);
                number
            }
        };
        let group = &mut self.groups[number as usize];
        group.counts.add(fault);
        if let Some(duration_ns) = fault.duration_ns {
            group.powers.get_or_insert_default().add(duration_ns);
        }
        if fault.fate != Fate::Failed {
            let page = self.page_size.page_of(fault.fault.address);
            let words = self.pages.entry(space).or_default();
            let word = words.entry((number, page / 64)).or_default();
            let bit = 1 << (page % 64);
            group.pages += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Gives up what is kept of the pages of an address space that has ended.
    pub fn forget(&mut self, space: u32) {
        self.pages.remove(&space);
    }

    /// The groups in an order, the most first; equal ones by their values.
    pub fn sorted(&self, order: Order) -> Vec<Group> {
        let mut groups: Vec<_> = self
            .numbers
            .iter()
            .map(|(key, number)| {
                let counted = &self.groups[*number as usize];
                Group {
                    values: self
                        .keys
                        .iter()
                        .zip(key)
                        .map(|(key, number)| self.value(*key, *number))
                        .collect(),
                    counts: counted.counts.clone(),
                    pages: counted.pages,
                    powers: counted.powers.as_deref().cloned(),
                }
            })
            .collect();
        let by_time = self.keys.first() == Some(&Key::Time);
        groups.sort_by(|one, other| {
            let rank = |group: &Group| match order {
                // A series is read in the order of time.
                _ if by_time => 0,
                Order::Faults => group.counts.faults,
                Order::Time => group.counts.time_ns,
                Order::Pages => group.pages,
            };
            (
                Reverse(rank(one)),
                Reverse(one.counts.faults * u64::from(!by_time)),
                &one.values,
            )
                .cmp(&(
                    Reverse(rank(other)),
                    Reverse(other.counts.faults * u64::from(!by_time)),
                    &other.values,
                ))
        });
        groups
    }

    fn value(&self, key: Key, number: u64) -> Value {
        if number == UNKNOWN {
            return Value::Unknown;
        }
        let constant = |name: &'static str| Value::Text(Name::from(name));
        let index = number as usize;
        match key {
            Key::Time => Value::Number(number * self.step_ns),
            key if key.is_number() => Value::Number(number),
            Key::Kind => constant(Kind::ALL[index].name()),
            Key::Fate => constant(Fate::ALL[index].name()),
            Key::Access => constant(Access::ALL[index].name()),
            _ => Value::Text(Name::clone(self.names.name(number as u32))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fault, Builder};
    use fault_tracer_trace::Nodes;

    fn group(keys: &[Key], faults: impl IntoIterator<Item = Builder>, order: Order) -> Vec<Group> {
        let mut groups = Groups::new(keys, 1_000, PageSize::default());
        let mut context = Context {
            symbols: &mut (),
            start_ns: 500,
            nodes: &Nodes::parse("0:0-1 1:2-3").unwrap(),
            stacks: &Default::default(),
        };
        for fault in faults {
            let fault = fault.build();
            groups.add(&fault, fault.fault.pid, &mut context);
        }
        groups.sorted(order)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn by_two_keys() {
        let faults = [
            fault().process("a").page(1),
            fault().process("a").page(1),
            fault().process("a").page(2).fate(Fate::Failed),
            fault().process("a").kind(Kind::FileRead).took(9),
            fault().process("b").took(5).pid(2).page(1),
            fault().page(1),
        ];
        let groups = group(&[Key::Process, Key::Kind], faults, Order::Faults);
        let found: Vec<_> = groups
            .iter()
            .map(|group| (group.values.clone(), group.counts.faults, group.pages))
            .collect();
        assert_eq!(
            found,
            [
                (vec![text("a"), text("zero-fill")], 3, 1),
                (vec![Value::Unknown, text("zero-fill")], 1, 1),
                (vec![text("a"), text("file-read")], 1, 1),
                (vec![text("b"), text("zero-fill")], 1, 1),
            ]
        );
        assert_eq!(groups[2].powers.as_ref().unwrap().used(), [(3, 1)]);
        assert_eq!(groups[0].powers, None);
    }

    #[test]
    fn pages_of_two_address_spaces_are_two() {
        let faults = [fault().pid(1), fault().pid(2), fault().pid(2)];
        assert_eq!(group(&[Key::Kind], faults, Order::Faults)[0].pages, 2);
    }

    #[test]
    fn orders() {
        let faults = [
            fault().mapping("many").page(1),
            fault().mapping("many").page(1),
            fault().mapping("many").page(1),
            fault().mapping("wide").page(1),
            fault().mapping("wide").page(2),
            fault().mapping("slow").took(100),
        ];
        let first = |order| group(&[Key::Mapping], faults.clone(), order)[0].values[0].clone();
        assert_eq!(first(Order::Faults), text("many"));
        assert_eq!(first(Order::Pages), text("wide"));
        assert_eq!(first(Order::Time), text("slow"));
    }

    #[test]
    fn time_in_steps_and_in_order() {
        let faults = [500, 1499, 1500, 9000, 1600, 1700].map(|time| fault().time(time));
        let groups = group(&[Key::Time], faults, Order::Faults);
        let found: Vec<_> = groups
            .iter()
            .map(|group| (group.values[0].clone(), group.counts.faults))
            .collect();
        assert_eq!(
            found,
            [
                (Value::Number(0), 2),
                (Value::Number(1000), 3),
                (Value::Number(8000), 1)
            ]
        );
    }
}
