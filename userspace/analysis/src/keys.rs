// SPDX-License-Identifier: GPL-2.0-only

//! What faults are grouped by and filtered on.

use std::sync::Arc;

use fault_tracer_trace::{export::Symbols, Name, Nodes, Object, ResolvedFault, Stacks};

/// A property of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Name of the process.
    Process,
    /// Process id.
    Pid,
    /// Name of the thread.
    Thread,
    /// Thread id.
    Tid,
    /// Path of the program.
    Program,
    /// Name of the mapping.
    Mapping,
    /// Name of the mapping, where it is a file.
    File,
    /// Kind.
    Kind,
    /// Fate.
    Fate,
    /// Access.
    Access,
    /// Function of the instruction pointer.
    Symbol,
    /// Function that called it, in recordings with stacks.
    Caller,
    /// Source line of the instruction pointer.
    Line,
    /// File of the instruction pointer.
    Object,
    /// CPU.
    Cpu,
    /// NUMA node of the CPU.
    Node,
    /// NUMA node of the page that the fault mapped.
    PageNode,
    /// Size of the page that the fault mapped, in bytes.
    Size,
    /// Time since the first fault, in nanoseconds; groups have it in steps.
    Time,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Not known.
    Unknown,
    /// A number.
    Number(u64),
    /// A name.
    Text(Name),
}

/// What the values of some keys are found with.
pub struct Context<'a> {
    /// Finds symbols.
    pub symbols: &'a mut dyn Symbols,
    /// Time of the first fault, in nanoseconds.
    pub start_ns: u64,
    /// The NUMA nodes of the machine's CPUs.
    pub nodes: &'a Nodes,
    /// The callers of faults so far.
    pub stacks: &'a Stacks,
}

/// A value that refers to the fault; constants are text that all faults share.
pub(crate) enum Found<'a> {
    Unknown,
    Number(u64),
    Name(&'a Name),
    /// A name of a small set that is known beforehand, and its index in the set.
    Constant(&'static str, u32),
    /// The name of an object.
    Object(&'a Arc<Object>),
    /// A name that was made for this fault.
    Made(Name),
}

impl Found<'_> {
    /// Its text, where it has one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Unknown | Self::Number(_) => None,
            Self::Name(name) => Some(name),
            Self::Constant(name, _) => Some(name),
            Self::Object(object) => Some(&object.name),
            Self::Made(name) => Some(name),
        }
    }
}

impl Key {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Process,
        Self::Pid,
        Self::Thread,
        Self::Tid,
        Self::Program,
        Self::Mapping,
        Self::File,
        Self::Kind,
        Self::Fate,
        Self::Access,
        Self::Symbol,
        Self::Caller,
        Self::Line,
        Self::Object,
        Self::Cpu,
        Self::Node,
        Self::PageNode,
        Self::Size,
        Self::Time,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Pid => "pid",
            Self::Thread => "thread",
            Self::Tid => "tid",
            Self::Program => "program",
            Self::Mapping => "mapping",
            Self::File => "file",
            Self::Kind => "kind",
            Self::Fate => "fate",
            Self::Access => "access",
            Self::Symbol => "symbol",
            Self::Caller => "caller",
            Self::Line => "line",
            Self::Object => "object",
            Self::Cpu => "cpu",
            Self::Node => "node",
            Self::PageNode => "page-node",
            Self::Size => "size",
            Self::Time => "time",
        }
    }

    /// Whether its values are numbers.
    pub const fn is_number(self) -> bool {
        match self {
            Self::Pid
            | Self::Tid
            | Self::Cpu
            | Self::Node
            | Self::PageNode
            | Self::Size
            | Self::Time => true,
            Self::Process
            | Self::Thread
            | Self::Program
            | Self::Mapping
            | Self::File
            | Self::Kind
            | Self::Fate
            | Self::Access
            | Self::Symbol
            | Self::Caller
            | Self::Line
            | Self::Object => false,
        }
    }

    /// The key of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The names of all, in a sentence.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub(crate) fn find<'a>(self, fault: &'a ResolvedFault, context: &mut Context) -> Found<'a> {
        fn name(name: &Option<Name>) -> Found<'_> {
            name.as_ref().map_or(Found::Unknown, Found::Name)
        }
        let time_ns = fault.fault.time_ns;
        match self {
            Self::Process => name(&fault.process),
            Self::Pid => Found::Number(fault.fault.pid.into()),
            Self::Thread => name(&fault.thread),
            Self::Tid => Found::Number(fault.fault.tid.into()),
            Self::Program => name(&fault.program),
            Self::Mapping => match &fault.place {
                Some(place) => Found::Name(&place.name),
                None => Found::Unknown,
            },
            Self::File => match &fault.place {
                Some(place) if place.file_offset.is_some() => Found::Name(&place.name),
                _ => Found::Unknown,
            },
            Self::Kind => Found::Constant(fault.kind.name(), fault.kind as u32),
            Self::Fate => Found::Constant(fault.fate.name(), fault.fate as u32),
            Self::Access => {
                let access = fault.fault.access;
                Found::Constant(access.name(), access as u32)
            }
            Self::Symbol => {
                let symbol = context.symbols.of(fault);
                symbol.map_or(Found::Unknown, |symbol| Found::Made(symbol.name))
            }
            Self::Caller => {
                let frame = fault.stack.and_then(|stack| context.stacks.frame(stack));
                let symbol = frame.and_then(|frame| context.symbols.caller(frame));
                symbol.map_or(Found::Unknown, |symbol| Found::Made(symbol.name))
            }
            Self::Line => {
                let code = fault.code.as_ref();
                code.and_then(|code| context.symbols.line(code, time_ns))
                    .map_or(Found::Unknown, Found::Made)
            }
            Self::Object => match &fault.code {
                Some(code) => Found::Object(&code.object),
                None => Found::Unknown,
            },
            Self::Cpu => Found::Number(fault.fault.cpu.into()),
            Self::Node => {
                let node = context.nodes.of(fault.fault.cpu);
                node.map_or(Found::Unknown, |node| Found::Number(node.into()))
            }
            Self::PageNode => fault
                .page_node
                .map_or(Found::Unknown, |node| Found::Number(node.into())),
            Self::Size => fault.page_bytes.map_or(Found::Unknown, Found::Number),
            Self::Time => Found::Number(time_ns.saturating_sub(context.start_ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fault;
    use fault_tracer_trace::{export::Symbol, Code};

    #[test]
    fn names_are_found_again() {
        for key in Key::ALL {
            assert_eq!(Key::from_name(key.name()), Some(key));
        }
        assert_eq!(Key::from_name("nodes"), None);
    }

    #[test]
    fn code_in_no_file_has_a_symbol_too() {
        struct Jit;
        impl Symbols for Jit {
            fn symbol(&mut self, _: &Code, _: u64) -> Option<Symbol> {
                None
            }

            fn jitted(&mut self, pid: u32, ip: u64, time_ns: u64) -> Option<Symbol> {
                (time_ns == 7).then(|| Symbol {
                    name: format!("{pid} {ip}").into(),
                    offset: 0,
                    bytes: None,
                })
            }
        }
        let of = |time_ns| {
            let mut fault = fault().build();
            (fault.fault.time_ns, fault.fault.pid, fault.fault.ip) = (time_ns, 3, 5);
            fault.code = None;
            let mut context = Context {
                symbols: &mut Jit,
                start_ns: 0,
                nodes: &Nodes::default(),
                stacks: &Stacks::default(),
            };
            let found = Key::Symbol.find(&fault, &mut context);
            found.text().map(str::to_owned)
        };
        assert_eq!((of(7).as_deref(), of(8)), (Some("3 5"), None));
    }

    #[test]
    fn the_node_is_that_of_the_cpu() {
        let nodes = Nodes::parse("0:0 1:1").unwrap();
        let of = |cpu: u32, nodes: &Nodes| {
            let mut fault = fault().build();
            fault.fault.cpu = cpu;
            let mut context = Context {
                symbols: &mut (),
                start_ns: 0,
                nodes,
                stacks: &Stacks::default(),
            };
            match Key::Node.find(&fault, &mut context) {
                Found::Number(node) => Some(node),
                _ => None,
            }
        };
        assert_eq!(
            [0, 1, 2].map(|cpu| of(cpu, &nodes)),
            [Some(0), Some(1), None]
        );
        assert_eq!(of(0, &Nodes::default()), None);
    }
}
