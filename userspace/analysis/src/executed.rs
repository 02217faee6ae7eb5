// SPDX-License-Identifier: GPL-2.0-only

//! Which functions of files faulted when they were executed: what an order of functions would bring together.

use fault_tracer_trace::{export::Symbols, Kind, Name, ResolvedFault};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::regions::Cost;

/// Code of a mapping of a program that faulted when it was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// The program, if it is known.
    pub program: Option<Name>,
    /// The file.
    pub mapping: Name,
    /// Faults in functions of which the length is known: each brings the window around it.
    pub faults: Cost,
    /// Other faults.
    pub unknown: u64,
    /// Address spaces in which it faulted.
    pub spaces: u64,
    /// The functions, in the order in which they faulted first.
    pub functions: Vec<Name>,
    /// Their length together, in bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Collected {
    found: Executed,
    functions: FxHashSet<Name>,
    spaces: FxHashSet<u32>,
}

/// The code of all programs.
#[derive(Debug, Default)]
pub struct Code {
    /// By program and mapping.
    collected: FxHashMap<(Option<Name>, Name), Collected>,
}

impl Code {
    /// Adds a fault of an address space.
    pub fn add(&mut self, fault: &ResolvedFault, space: u32, symbols: &mut dyn Symbols) {
        let (Kind::FileExecute, Some(place)) = (fault.kind, &fault.place) else {
            return;
        };
        let key = (fault.program.clone(), Name::clone(&place.name));
        let collected = self.collected.entry(key).or_default();
        let code = fault.code.as_ref();
        let symbol = code.and_then(|code| symbols.symbol(code, fault.fault.time_ns));
        let found = &mut collected.found;
        match symbol.and_then(|symbol| Some((symbol.name, symbol.bytes?))) {
            Some((name, bytes)) => {
                found.faults.add(fault);
                if collected.functions.insert(Name::clone(&name)) {
                    found.functions.push(name);
                    found.bytes = found.bytes.saturating_add(bytes);
                }
            }
            None => found.unknown += 1,
        }
        collected.spaces.insert(space);
    }

    /// What there is, by program and mapping.
    pub fn found(self) -> Vec<Executed> {
        let executed = self.collected.into_iter();
        let mut executed: Vec<_> = executed
            .map(|((program, mapping), collected)| Executed {
                program,
                mapping,
                spaces: collected.spaces.len() as u64,
                ..collected.found
            })
            .collect();
        executed.sort_by(|one, other| {
            (&one.program, &one.mapping).cmp(&(&other.program, &other.mapping))
        });
        executed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fault, Functions};

    #[test]
    fn functions_are_in_the_order_of_their_first_faults() {
        let mut code = Code::default();
        let mut add = |offset, space| {
            let fault = fault().program("/bin/a").executed("/bin/a", offset).took(3);
            code.add(&fault.build(), space, &mut Functions { bytes: 1000 });
        };
        for (offset, space) in [(5000, 1), (1200, 1), (1900, 1), (5100, 2)] {
            add(offset, space);
        }
        let reads = fault().program("/bin/a").kind(Kind::FileRead);
        code.add(&reads.build(), 1, &mut Functions { bytes: 1000 });
        let unknown = fault().program("/bin/a").executed("/bin/a", 1);
        code.add(&unknown.build(), 1, &mut ());
        let found = code.found();
        assert_eq!(found.len(), 1);
        let names: Vec<&str> = found[0].functions.iter().map(|name| &**name).collect();
        assert_eq!(names, ["f5", "f1"]);
        assert_eq!((found[0].bytes, found[0].spaces), (2000, 2));
        let faults = found[0].faults;
        assert_eq!(
            (faults.faults, faults.time_ns, found[0].unknown),
            (4, 12, 1)
        );
    }
}
