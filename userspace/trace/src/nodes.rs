// SPDX-License-Identifier: GPL-2.0-only

//! Which NUMA node each CPU belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The NUMA nodes of a machine's CPUs. Its text, in a trace's metadata, is `0:0-3,8-11 1:4-7`: a node and its CPUs, and
/// the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(Vec<(u32, Vec<Cpus>)>);

/// The first and the last of CPUs that follow one another.
type Cpus = (u32, u32);

impl Nodes {
    /// Reads the text; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut nodes = Self::default();
        for part in text.split_ascii_whitespace() {
            let (node, cpus) = part.split_once(':')?;
            let ranges = cpus.split(',').map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            nodes
                .0
                .push((node.parse().ok()?, ranges.collect::<Option<_>>()?));
        }
        Some(nodes)
    }

    /// The node of a CPU; `None` if that is not known.
    pub fn of(&self, cpu: u32) -> Option<u32> {
        let has = |cpus: &[Cpus]| {
            cpus.iter()
                .any(|(first, last)| (*first..=*last).contains(&cpu))
        };
        let found = self.0.iter().find(|(_, cpus)| has(cpus));
        found.map(|(node, _)| *node)
    }
}

/// Of CPUs and their nodes.
impl FromIterator<(u32, u32)> for Nodes {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(cpus: I) -> Self {
        let mut nodes = BTreeMap::<u32, Vec<Cpus>>::new();
        for (cpu, node) in cpus.into_iter().collect::<BTreeSet<_>>() {
            let ranges = nodes.entry(node).or_default();
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        Self(nodes.into_iter().collect())
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (node, cpus)) in self.0.iter().enumerate() {
            write!(f, "{}{node}:", if index == 0 { "" } else { " " })?;
            for (index, (first, last)) in cpus.iter().enumerate() {
                write!(f, "{}{first}", if index == 0 { "" } else { "," })?;
                if last != first {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_have_nodes() {
        let text = "0:0-3,8-11 1:4-7,12";
        let nodes = Nodes::parse(text).unwrap();
        assert_eq!(nodes.to_string(), text);
        let of = [0, 3, 8, 12, 7, 13].map(|cpu| nodes.of(cpu));
        assert_eq!(of, [Some(0), Some(0), Some(0), Some(1), Some(1), None]);
        let cpus = (0..13)
            .rev()
            .map(|cpu| (cpu, u32::from(cpu > 11 || cpu / 4 == 1)));
        assert_eq!(cpus.collect::<Nodes>(), nodes);
        assert_eq!(Nodes::parse("").unwrap(), Nodes::default());
        assert_eq!(Nodes::default().of(0), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "0",
            "0:",
            "0:x",
            "x:0",
            "0:1-",
            "0:-1",
            "0:0-4294967296",
            "4294967296:0",
            "0:1-2-3",
        ] {
            assert_eq!(Nodes::parse(text), None, "{text}");
        }
    }
}
