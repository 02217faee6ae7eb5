// SPDX-License-Identifier: GPL-2.0-only

//! Writes a made-up trace, the same each time: for tests and measurements of pictures without a guest.
//!
//! `ft-synthetic OUT.arrows SHAPE [FAULTS]`. Shapes: `program` (a program with eight threads, libraries, a heap,
//! arenas, two children, gaps, durations; one cluster and one lone fault at known places), `hostile` (names that
//! want to run scripts), `empty`, `one`, `processes` (one for each ten faults), `odd` (addresses above 2^47 and
//! in the kernel's half, times before 1970, faults of which nothing is known), `scattered` (pages far from each other),
//! `burst` (few for 20 seconds, then all at once).

use std::{fs::File, process::ExitCode, sync::Arc};

use fault_tracer_trace::{
    file::Writer, Access, Account, BuildId, Code, Counter, CounterRow, Fate, Fault, FrameRow,
    GapRow, Kind, Loss, LostRow, Metadata, Name, Nodes, Object, PageSize, Place, ResolvedFault,
    Row, TextRow, ThreadEvent, ThreadRow, FIRST_FRAME, OUTERMOST,
};

/// A generator of numbers that look random: xorshift64*.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

type Error = Box<dyn std::error::Error>;

/// Start of the recordings, on the trace's clock.
const START_NS: u64 = 5_000_000_000;

struct Trace {
    writer: Writer<File>,
    faults: u64,
    lost: u64,
}

impl Trace {
    fn new(path: &str, command: &str, wall_offset_ns: i64) -> Result<Self, Error> {
        Self::of_pages(path, command, wall_offset_ns, PageSize::default())
    }

    /// Of a machine with such pages.
    fn of_pages(
        path: &str,
        command: &str,
        wall_offset_ns: i64,
        page_size: PageSize,
    ) -> Result<Self, Error> {
        let metadata = Metadata {
            version: env!("CARGO_PKG_VERSION").into(),
            host: "synthetic".into(),
            kernel: "Linux 7.3.4 x86_64".into(),
            command: command.into(),
            clock: "CLOCK_MONOTONIC".into(),
            wall_offset_ns,
            wall_error_ns: 40,
            latency: true,
            nodes: Nodes::default(),
            page_size,
            account: None,
            attempts_apart: false,
            selection: String::new(),
        };
        Ok(Self {
            writer: Writer::new(File::create(path)?, &metadata)?,
            faults: 0,
            lost: 0,
        })
    }

    fn fault(&mut self, fault: ResolvedFault) -> Result<(), Error> {
        self.faults += u64::from(fault.fate != Fate::Retried);
        Ok(self.writer.push(&Row::Fault(Box::new(fault)))?)
    }

    fn thread(
        &mut self,
        event: ThreadEvent,
        time_ns: u64,
        id: (u32, u32),
        names: [&str; 2],
    ) -> Result<(), Error> {
        let own = event == ThreadEvent::Exec;
        let row = ThreadRow {
            event,
            time_ns,
            cpu: 0,
            pid: id.0,
            tid: id.1,
            process: Some(names[0].into()),
            thread: Some(names[1].into()),
            program: own.then(|| format!("/usr/bin/{}", names[0]).into()),
            parent: (event != ThreadEvent::Exit).then_some(1000),
            old_tid: own.then_some(id.1),
            min_flt: 0,
            maj_flt: 0,
        };
        Ok(self.writer.push(&Row::Thread(Box::new(row)))?)
    }

    fn finish(mut self, time_ns: u64) -> Result<(), Error> {
        let account = Account {
            hits: self.faults + self.lost,
            recorded: self.faults,
            dropped: self.lost,
            ..Account::default()
        };
        let counters = [
            (Counter::Hits, account.hits),
            (Counter::Recorded, account.recorded),
            (Counter::Dropped, account.dropped),
            (Counter::End, self.faults),
        ];
        for (counter, count) in counters {
            let cpu = (counter != Counter::End).then_some(0);
            self.writer.push(&Row::Counter(CounterRow {
                counter,
                time_ns,
                cpu,
                count,
            }))?;
        }
        self.writer.set_account(&account)?;
        self.writer.finish()?;
        println!("{} faults", self.faults);
        Ok(())
    }
}

fn name(text: &str) -> Name {
    Arc::from(text)
}

fn place(mapping: &str, permissions: &str, file_offset: Option<u64>) -> Option<Place> {
    Some(Place {
        name: name(mapping),
        permissions: name(permissions),
        file_offset,
    })
}

/// A fault of thread 1000 of process 1000, that a caller changes.
fn plain(time_ns: u64, address: u64) -> ResolvedFault {
    ResolvedFault {
        fault: Fault {
            time_ns,
            pid: 1000,
            tid: 1000,
            address,
            ip: 0x40_1000,
            access: Access::Write,
            ..Fault::default()
        },
        process: Some(name("worker")),
        thread: Some(name("worker")),
        kind: Kind::ZeroFill,
        fate: Fate::Minor,
        ..ResolvedFault::default()
    }
}

/// Kinds of regions of the program: start, pages, mapping, whether a file.
const LIBRARIES: [(&str, u64, u64); 5] = [
    ("/usr/lib/x86_64-linux-gnu/libc.so.6", 0x7f10_0000_0000, 480),
    (
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        0x7f10_1000_0000,
        560,
    ),
    (
        "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
        0x7f10_2000_0000,
        1100,
    ),
    (
        "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0",
        0x7f10_3000_0000,
        380,
    ),
    ("/var/lib/data/table.db", 0x7f08_0000_0000, 65_536),
];

fn program(path: &str, faults: u64) -> Result<(), Error> {
    let mut trace = Trace::new(
        path,
        "worker --threads 8 data.db",
        1_700_000_000_000_000_000,
    )?;
    let mut random = Numbers(0x9e37_79b9_7f4a_7c15);
    let span_ns = 20_000_000_000u64.max(faults * 1000);
    let object = Arc::new(Object {
        name: name("/usr/bin/worker"),
        build_id: BuildId::Absent,
        file: None,
        bias: Some(0),
    });
    for tid in 0..8 {
        let thread = if tid == 0 {
            "worker".into()
        } else {
            format!("pool-{tid}")
        };
        trace.thread(
            ThreadEvent::Present,
            START_NS,
            (1000, 1000 + tid),
            ["worker", &thread],
        )?;
    }
    for pid in [1000, 2000, 2001] {
        trace.writer.push(&Row::Text(Box::new(TextRow {
            time_ns: START_NS,
            cpu: 0,
            pid,
            tid: pid,
            address: 0x5600_0000_0000,
            file_offset: 0,
            object: Arc::clone(&object),
        })))?;
    }
    // A place in that code, which nobody calls; and one in no file, which it calls.
    let outermost = Code {
        object: Arc::clone(&object),
        offset: 0x40,
    };
    for (id, caller, code) in [
        (FIRST_FRAME, OUTERMOST, Some(outermost)),
        (FIRST_FRAME + 1, FIRST_FRAME, None),
    ] {
        trace.writer.push(&Row::Frame(Box::new(FrameRow {
            time_ns: START_NS,
            cpu: 0,
            pid: 1000,
            tid: 1000,
            id,
            caller,
            address: 0x5600_0000_0040,
            code,
        })))?;
    }
    // A lone fault, 2 % in: the only one of the main stack that executes, and that has callers.
    let lone_ns = START_NS + span_ns / 50;
    let cluster_ns = START_NS + span_ns / 2;
    let cluster = 1000.min(faults / 4);
    let mut time_ns = START_NS;
    let step_ns = span_ns / faults.max(1);
    let (mut heap, mut arenas, mut done) = (0u64, [0u64; 8], 0);
    let (mut lone, mut clustered, mut gap, mut forked) = (false, false, false, false);
    while done < faults {
        time_ns += 1 + random.below(2 * step_ns.max(1));
        if !lone && time_ns >= lone_ns {
            lone = true;
            let mut fault = plain(lone_ns, 0x7ffd_1234_5678);
            fault.fault.access = Access::Execute;
            fault.kind = Kind::Spurious;
            fault.place = place("[stack]", "rwxp", None);
            fault.duration_ns = Some(123_456);
            fault.page_bytes = Some(1 << 16);
            fault.stack = Some(FIRST_FRAME + 1);
            fault.fate = Fate::Retried;
            trace.fault(fault.clone())?;
            fault.fault.time_ns += 1;
            fault.fate = Fate::Major;
            trace.fault(fault)?;
            done += 1;
        }
        if !clustered && time_ns >= cluster_ns {
            clustered = true;
            for index in 0..cluster {
                let page = 40_000 + index % 64;
                let address = LIBRARIES[4].1 + page * 4096 + 8;
                let mut fault = plain(cluster_ns + index * 100, address);
                fault.fault.access = Access::Read;
                fault.kind = Kind::SwapIn;
                fault.fate = Fate::Major;
                fault.place = place(LIBRARIES[4].0, "rw-p", Some(page * 4096 + 8));
                fault.duration_ns = Some(2_000_000 + index);
                fault.page_bytes = Some(1 << 12);
                trace.fault(fault)?;
                done += 1;
            }
            time_ns = time_ns.max(cluster_ns + cluster * 100);
        }
        if !gap && time_ns >= START_NS + span_ns / 10 * 7 {
            gap = true;
            let end_ns = time_ns + span_ns / 100;
            trace.writer.push(&Row::Lost(LostRow {
                how: Loss::Dropped,
                cpu: 1,
                time_ns,
                end_ns,
                count: 321,
            }))?;
            trace.writer.push(&Row::Gap(GapRow {
                time_ns,
                end_ns,
                cpu: 1,
                pid: 1000,
                tid: 1003,
                count: 21,
            }))?;
            trace.lost += 321;
            time_ns = end_ns;
        }
        if !forked && time_ns >= START_NS + span_ns / 4 {
            forked = true;
            for pid in [2000, 2001] {
                let names = if pid == 2000 {
                    ["worker", "worker"]
                } else {
                    ["sh", "sh"]
                };
                trace.thread(ThreadEvent::Fork, time_ns, (pid, pid), names)?;
                if pid == 2001 {
                    trace.thread(ThreadEvent::Exec, time_ns + 10, (pid, pid), names)?;
                }
                trace.thread(
                    ThreadEvent::Exit,
                    START_NS + span_ns / 4 * 3,
                    (pid, pid),
                    names,
                )?;
            }
        }
        let children = forked && time_ns < START_NS + span_ns / 4 * 3;
        let thread = random.below(8) as u32;
        let pid = if children && random.below(8) == 0 {
            2000 + random.below(2) as u32
        } else {
            1000
        };
        let tid = if pid == 1000 { 1000 + thread } else { pid };
        let bias = if pid == 2001 { 0x11_0000_0000 } else { 0 };
        let mut fault = plain(time_ns, 0);
        let low = if random.below(3) == 0 {
            random.below(512) * 8
        } else {
            0
        };
        let (address, kind, access, mapping) = match random.below(100) {
            0..=29 => {
                heap += 1;
                let address = 0x5600_1000_0000 + heap % 262_144 * 4096 + low;
                (
                    address,
                    Kind::ZeroFill,
                    Access::Write,
                    place("[heap]", "rw-p", None),
                )
            }
            30..=69 => {
                let arena = &mut arenas[thread as usize];
                *arena += 1;
                let base = 0x7f00_0000_0000 + u64::from(thread) * 0x4000_0000;
                let (page, kind) = match random.below(5) {
                    0 => (random.below(1 + *arena), Kind::CopyOnWrite),
                    _ => (*arena, Kind::ZeroFill),
                };
                (
                    base + page % 131_072 * 4096 + low,
                    kind,
                    Access::Write,
                    place("[anon]", "rw-p", None),
                )
            }
            70..=84 => {
                let (mapping, start, pages) = LIBRARIES[random.below(5) as usize];
                let page = random.below(pages).min(random.below(pages));
                let offset = page * 4096 + low;
                let writes = page * 10 > pages * 9;
                let (kind, access) = match (writes, random.below(2)) {
                    (true, _) => (Kind::FileCopy, Access::Write),
                    (false, 0) => (Kind::FileExecute, Access::Execute),
                    (false, _) => (Kind::FileRead, Access::Read),
                };
                let permissions = if writes { "rw-p" } else { "r-xp" };
                (
                    start + offset,
                    kind,
                    access,
                    place(mapping, permissions, Some(offset)),
                )
            }
            85..=89 => {
                let offset = random.below(220) * 4096 + low;
                let program = if pid == 2001 {
                    "/usr/bin/sh"
                } else {
                    "/usr/bin/worker"
                };
                let text = place(program, "r-xp", Some(offset));
                (
                    0x5600_0000_0000 + offset,
                    Kind::FileExecute,
                    Access::Execute,
                    text,
                )
            }
            90..=92 => {
                let offset = 0xdc000 + random.below(30) * 4096 + low;
                let data = place("/usr/bin/worker", "rw-p", Some(offset));
                (
                    0x5600_0000_0000 + offset,
                    Kind::FileCopy,
                    Access::Write,
                    data,
                )
            }
            93..=95 => {
                let stack = place(
                    &format!("[anon: glibc: pthread stack: {tid}]"),
                    "rw-p",
                    None,
                );
                let top = 0x7efc_0000_0000 + u64::from(thread) * 0x80_1000;
                (
                    top - random.below(40) * 4096 - 8,
                    Kind::ZeroFill,
                    Access::Write,
                    stack,
                )
            }
            96..=97 => {
                let address = 0x7ffd_1234_0000 - random.below(33) * 4096 - low;
                (
                    address,
                    Kind::ZeroFill,
                    Access::Write,
                    place("[stack]", "rw-p", None),
                )
            }
            98 => {
                let address = 0x7ffd_2000_0000 + random.below(2) * 4096;
                (
                    address,
                    Kind::Special,
                    Access::Read,
                    place("[vdso]", "r-xp", None),
                )
            }
            _ => (
                0x7f11_0000_0000 + random.below(64) * 4096,
                Kind::ZeroPage,
                Access::Read,
                None,
            ),
        };
        fault.fault.address = address + bias;
        fault.fault.access = access;
        fault.fault.pid = pid;
        fault.fault.tid = tid;
        fault.kind = kind;
        fault.place = mapping;
        // Of files it is not known.
        if kind == Kind::ZeroFill {
            fault.page_bytes = Some(if done % 50 == 0 { 1 << 16 } else { 1 << 12 });
        }
        if pid == 2001 {
            fault.process = Some(name("sh"));
            fault.thread = Some(name("sh"));
        } else if pid == 1000 && thread != 0 {
            fault.thread = Some(name(&format!("pool-{thread}")));
        }
        if random.below(200) == 0 {
            fault.fate = Fate::Major;
        }
        let typical = if fault.fate == Fate::Major {
            90_000
        } else {
            900
        };
        fault.duration_ns = Some(typical / 2 + random.below(typical) + random.below(typical / 4));
        let offset = (random.below(60) * random.below(60)) << 4;
        fault.fault.ip = 0x5600_0000_0000 + offset;
        fault.code = Some(Code {
            object: Arc::clone(&object),
            offset,
        });
        trace.fault(fault)?;
        done += 1;
    }
    trace.finish(time_ns)
}

fn hostile(path: &str) -> Result<(), Error> {
    const SCRIPTS: [&str; 8] = [
        "</script><script>window.hacked=1</script>",
        "<img src=x onerror=window.hacked=1>",
        "'\"><svg onload=window.hacked=1>",
        "<!--<script>",
        "\u{2028}\u{2029}\u{202e}gnp.exe\u{0}\u{7}\u{1b}[31m",
        "]]></style></svg></text><script>window.hacked=1</script>",
        "__proto__",
        "javascript:window.hacked=1//&amp;&lt;\\u003c\\",
    ];
    let mut trace = Trace::new(path, SCRIPTS[0], 0)?;
    for index in 0..400u32 {
        let script = SCRIPTS[index as usize % SCRIPTS.len()];
        let time_ns = START_NS + u64::from(index) * 1_000_000;
        let mut fault = plain(time_ns, 0x7f00_0000_0000 + u64::from(index) * 0x10_0000);
        let offset = (index % 5 != 0).then_some(u64::from(index) << 12);
        fault.place = place(&format!("/{script}{}", index % 3), "rw-p", offset);
        fault.process = Some(name(script));
        fault.thread = Some(name(SCRIPTS[index as usize / 8 % SCRIPTS.len()]));
        fault.fault.tid = 1000 + index % 8;
        trace.fault(fault)?;
        trace.thread(ThreadEvent::Exec, time_ns, (1000, 1000), [script, script])?;
    }
    trace.finish(START_NS + 500_000_000)
}

/// Zero-fills all over 64 TiB, so that hardly two pages lie beside each other.
fn scattered(path: &str, faults: u64) -> Result<(), Error> {
    let mut trace = Trace::new(path, "scatter", 1_700_000_000_000_000_000)?;
    let mut random = Numbers(11);
    for index in 0..faults {
        let address = 0x1000_0000_0000 + random.below(1 << 34) * 4096;
        trace.fault(plain(START_NS + index * 2_000, address))?;
    }
    trace.finish(START_NS + faults * 2_000)
}

fn burst(path: &str, faults: u64) -> Result<(), Error> {
    const QUIET_NS: u64 = 20_000_000_000;
    let mut trace = Trace::new(path, "burst", 1_700_000_000_000_000_000)?;
    let before = faults / 10;
    for index in 0..faults {
        let time_ns = match index.checked_sub(before) {
            None => index * (QUIET_NS / before),
            Some(later) => QUIET_NS + later * 1000,
        };
        let mut fault = plain(START_NS + time_ns, 0x5600_0000_0000 + index * 4096);
        fault.place = place("[heap]", "rw-p", None);
        trace.fault(fault)?;
    }
    trace.finish(START_NS + QUIET_NS + faults * 1000)
}

fn processes(path: &str, faults: u64) -> Result<(), Error> {
    let mut trace = Trace::new(path, "make -j64", 1_700_000_000_000_000_000)?;
    let mut random = Numbers(7);
    for index in 0..faults {
        // CAST: below the number of processes.
        let pid = 1000 + (index / 10) as u32;
        let time_ns = START_NS + index * 20_000;
        let names = [["cc1", "as", "ld", "sh"][pid as usize % 4]; 2];
        if index % 10 == 0 {
            trace.thread(ThreadEvent::Fork, time_ns, (pid, pid), names)?;
            trace.thread(ThreadEvent::Exec, time_ns + 1, (pid, pid), names)?;
        }
        let shift = u64::from(pid) * 0x1003_7000 % 0x80_0000_0000;
        let mut fault = plain(time_ns + 2, 0);
        fault.fault.pid = pid;
        fault.fault.tid = pid;
        fault.process = Some(name(names[0]));
        fault.thread = Some(name(names[0]));
        let page = random.below(300);
        (fault.fault.address, fault.place) = match index % 10 {
            0..=2 => (
                0x7f00_0000_0000 + shift + page * 4096,
                place("/usr/lib/libc.so.6", "r-xp", Some(page * 4096)),
            ),
            3..=4 => {
                let program = format!("/usr/bin/{}", names[0]);
                (
                    0x5600_0000_0000 + shift + page * 4096,
                    place(&program, "r-xp", Some(page * 4096)),
                )
            }
            5..=6 => (
                0x5601_0000_0000 + shift + page * 4096,
                place("[heap]", "rw-p", None),
            ),
            7..=8 => (
                0x7e00_0000_0000 + shift + page * 4096,
                place("[anon]", "rw-p", None),
            ),
            _ => (
                0x7ffd_0000_0000 + shift % 0x1_0000_0000 - page % 9 * 4096,
                place("[stack]", "rw-p", None),
            ),
        };
        trace.fault(fault)?;
        if index % 10 == 9 {
            trace.thread(ThreadEvent::Exit, time_ns + 3, (pid, pid), names)?;
        }
    }
    trace.finish(START_NS + faults * 20_000)
}

fn odd(path: &str) -> Result<(), Error> {
    // In 1960.
    let mut trace = Trace::new(path, "odd", -315_619_200_000_000_000)?;
    let addresses = [
        0,
        0x1000,
        0x00ff_ffff_ffff_f123,
        0x0080_0000_0000_0000,
        0xffff_8880_0000_0abc,
        u64::MAX,
        0x7fff_ffff_e000,
    ];
    for index in 0..700u64 {
        let address = addresses[index as usize % addresses.len()];
        let mut fault = plain(START_NS + index * 1000, address);
        fault.process = None;
        fault.thread = None;
        fault.fate = Fate::Unknown;
        fault.duration_ns = (index % 2 == 0).then_some(u64::MAX / 2);
        trace.fault(fault)?;
    }
    trace.finish(START_NS + 700_000)
}

/// A file's bytes, of which two lie in one page of 64 KiB and one in the next.
fn large_pages(path: &str) -> Result<(), Error> {
    let page_size = PageSize::of_bytes(64 << 10).ok_or("there are no such pages")?;
    let mut trace = Trace::of_pages(path, "large pages", 0, page_size)?;
    for (index, offset) in (0..).zip([0x1_1234, 0x1_f234, 0x2_0234]) {
        let mut fault = plain(START_NS + index * 1000, 0x7f00_0000_0000 + offset);
        fault.place = place("/bin/one", "r--p", Some(offset));
        trace.fault(fault)?;
    }
    trace.finish(START_NS + 2000)
}

fn run() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, shape, rest @ ..] = arguments.as_slice() else {
        return Err(
            "usage: synthetic OUT.arrow program|hostile|empty|one|large-pages|processes|odd|scattered|burst [FAULTS]"
                .into(),
        );
    };
    let faults = rest.first().map_or(Ok(100_000), |count| count.parse())?;
    match shape.as_str() {
        "program" => program(path, faults),
        "hostile" => hostile(path),
        "empty" => Trace::new(path, "true", 0)?.finish(START_NS),
        "one" => {
            let mut trace = Trace::new(path, "one", 0)?;
            let mut fault = plain(START_NS, 0x7f00_0000_1234);
            fault.place = place("/bin/one", "r--p", Some(0x1234));
            trace.fault(fault)?;
            trace.finish(START_NS)
        }
        "large-pages" => large_pages(path),
        "processes" => processes(path, faults),
        "odd" => odd(path),
        "scattered" => scattered(path, faults),
        "burst" => burst(path, faults),
        other => Err(format!("no shape is called {other}").into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ft-synthetic: {error}");
            ExitCode::FAILURE
        }
    }
}
