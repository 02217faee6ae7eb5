// SPDX-License-Identifier: GPL-2.0-only

//! Names as small numbers, so that tables are keyed by numbers.

use fault_tracer_trace::Name;
use rustc_hash::FxHashMap;

/// Gives each name a number, in the order in which they come.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: FxHashMap<Name, u32>,
    names: Vec<Name>,
    /// The name that was asked for last: most faults have the names of the one before.
    last: Option<(Name, u32)>,
}

impl Names {
    /// The number of a name.
    pub fn number(&mut self, name: &Name) -> u32 {
        if let Some((last, number)) = &self.last {
            if Name::ptr_eq(last, name) {
                return *number;
            }
        }
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                // More than 2^32 names do not fit into memory.
                let number = self.names.len() as u32;
                self.numbers.insert(Name::clone(name), number);
                self.names.push(Name::clone(name));
                number
            }
        };
        self.last = Some((Name::clone(name), number));
        number
    }

    /// The number of a name that has one.
    pub fn find(&self, name: &Name) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name of a number that [`Names::number`] gave.
    ///
    /// # Panics
    ///
    /// If it did not.
    pub fn name(&self, number: u32) -> &Name {
        &self.names[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_have_one_number() {
        let mut names = Names::default();
        let given = ["a", "b", "a", "a", "b"].map(|name| names.number(&name.into()));
        assert_eq!(given, [0, 1, 0, 0, 1]);
        assert_eq!(&**names.name(1), "b");
        assert_eq!(
            (names.find(&"b".into()), names.find(&"c".into())),
            (Some(1), None)
        );
    }
}
