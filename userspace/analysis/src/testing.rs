// SPDX-License-Identifier: GPL-2.0-only

//! Rows for the tests of the analyses.

use fault_tracer_trace::{
    export::{Symbol, Symbols},
    Access, BuildId, Code, Fate, Fault, Kind, Object, PageSize, Place, ResolvedFault, Row,
    ThreadEvent, ThreadRow,
};

/// Pages of so many KiB.
pub fn kib(kib: u64) -> PageSize {
    PageSize::of_bytes(kib << 10).expect("there are such pages")
}

/// Makes a fault.
#[derive(Clone)]
pub struct Builder(ResolvedFault);

/// A completed zero-fill of process and thread 1 in `[anon]`.
pub fn fault() -> Builder {
    Builder(ResolvedFault {
        fault: Fault {
            pid: 1,
            tid: 1,
            access: Access::Write,
            ..Fault::default()
        },
        fate: Fate::Minor,
        ..ResolvedFault::default()
    })
    .mapping("[anon]")
}

impl Builder {
    pub fn pid(mut self, pid: u32) -> Self {
        self.0.fault.pid = pid;
        self.0.fault.tid = pid;
        self
    }

    pub fn tid(mut self, tid: u32) -> Self {
        self.0.fault.tid = tid;
        self
    }

    pub fn time(mut self, time_ns: u64) -> Self {
        self.0.fault.time_ns = time_ns;
        self
    }

    /// A page of 4 KiB, by its number.
    pub fn page(self, page: u64) -> Self {
        self.address(page << 12)
    }

    pub fn address(mut self, address: u64) -> Self {
        self.0.fault.address = address;
        self
    }

    pub fn access(mut self, access: Access) -> Self {
        self.0.fault.access = access;
        self
    }

    pub fn kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub fn fate(mut self, fate: Fate) -> Self {
        self.0.fate = fate;
        self
    }

    pub fn flags(mut self, flags: u16) -> Self {
        self.0.fault.flags = flags;
        self
    }

    /// A page of so many bytes.
    pub fn mapped(mut self, bytes: u64) -> Self {
        self.0.page_bytes = Some(bytes);
        self
    }

    pub fn attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub fn took(mut self, duration_ns: u64) -> Self {
        self.0.duration_ns = Some(duration_ns);
        self
    }

    pub fn program(mut self, program: &str) -> Self {
        self.0.program = Some(program.into());
        self
    }

    pub fn process(mut self, process: &str) -> Self {
        self.0.process = Some(process.into());
        self
    }

    pub fn mapping(mut self, name: &str) -> Self {
        self.0.place = Some(Place {
            name: name.into(),
            permissions: "rw-p".into(),
            file_offset: name.starts_with('/').then_some(0),
        });
        self
    }

    pub fn code(mut self, object: &str, offset: u64) -> Self {
        self.0.code = Some(Code {
            object: Object {
                name: object.into(),
                build_id: BuildId::Absent,
                file: None,
                bias: None,
            }
            .into(),
            offset,
        });
        self
    }

    /// An instruction of a file's code at an offset.
    pub fn executed(self, file: &str, offset: u64) -> Self {
        self.kind(Kind::FileExecute)
            .mapping(file)
            .code(file, offset)
    }

    pub fn build(self) -> ResolvedFault {
        self.0
    }

    pub fn row(self) -> Row {
        Row::Fault(Box::new(self.0))
    }
}

/// Code in which a function begins every so many bytes: `f0`, `f1` and so on.
pub struct Functions {
    pub bytes: u64,
}

impl Symbols for Functions {
    fn symbol(&mut self, code: &Code, _: u64) -> Option<Symbol> {
        Some(Symbol {
            name: format!("f{}", code.offset / self.bytes).into(),
            offset: code.offset % self.bytes,
            bytes: Some(self.bytes),
        })
    }
}

/// A thread's row at time 0.
pub fn event(event: ThreadEvent, pid: u32, tid: u32) -> Row {
    Row::Thread(Box::new(ThreadRow {
        event,
        time_ns: 0,
        cpu: 0,
        pid,
        tid,
        process: None,
        thread: None,
        program: None,
        parent: None,
        old_tid: None,
        min_flt: 0,
        maj_flt: 0,
    }))
}
