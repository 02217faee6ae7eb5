// SPDX-License-Identifier: GPL-2.0-only

//! Writes a trace with rows of all events and all columns set, for the tests of other programs' importers.
//!
//!     fixture FILE [FOLDER]
//!
//! FOLDER gets copies of what the file held after each change. FILE may also be a pipe.
//!
//! What is in it follows from the number of each fault, as the tests compute it, too. The code of the faults
//! is this program's.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use fault_tracer_client::{Mapping, Record, Task, TaskEvent};
use fault_tracer_recorder::{parse_maps, Files, Resolver};
use fault_tracer_trace::{
    file::{compact, Changeable, Destination, Writer},
    Access, Account, Code, Counter, CounterRow, Fate, Fault, FrameRow, GapRow, Kind, Loss, LostRow,
    Metadata, Name, Nodes, PageSize, Place, ResolvedFault, Row, TextRow, ThreadEvent, ThreadRow,
    FIRST_FRAME, OUTERMOST, UNKNOWN_CALLER,
};
use fault_tracer_uapi::{fault_flag, FaultRecord};

/// Faults, which are flushed several times, with more names each time than are carried on.
const FAULTS: u64 = 3000;
const BATCH: usize = 1000;
const PID: u32 = 70;

/// Where the faults of odd numbers come from.
#[no_mangle]
#[inline(never)]
extern "C" fn fixture_code() -> u64 {
    std::hint::black_box(41) + 1
}

fn name(text: impl AsRef<str>) -> Name {
    text.as_ref().into()
}

/// What the resolver tells of this program's code, which it learns from its mappings.
fn own_code(mappings: &[Mapping]) -> Option<(TextRow, Code)> {
    let mut resolver = Resolver::looking(Box::new(Files::new()));
    for mapping in mappings {
        resolver.add_mapping(mapping);
    }
    let mut rows = Vec::new();
    let task = Task {
        time_ns: 0,
        tid: PID,
        pid: PID,
        parent: 1,
        event: TaskEvent::Present,
        comm: "fixture".into(),
        path: String::new(),
        min_flt: 0,
        maj_flt: 0,
        from_id: PID,
    };
    resolver.push(0, Record::Task(Box::new(task)), &mut rows);
    let ip = fixture_code as extern "C" fn() -> u64 as usize as u64;
    let record = FaultRecord {
        header: u64::from(PID) | u64::from(PID) << fault_tracer_uapi::HEADER_TGID_SHIFT,
        time_ns: 1,
        address_counters: 0,
        ip_mapping: ip,
    };
    resolver.push(0, Record::Fault(record), &mut rows);
    resolver.finish(&mut rows);
    let text = rows.iter().find_map(|row| match row {
        Row::Text(text) => Some((**text).clone()),
        _ => None,
    })?;
    let code = rows.into_iter().find_map(|row| match row {
        Row::Fault(fault) => fault.code,
        _ => None,
    })?;
    Some((text, code))
}

/// The frames of faults: in this program's code, which nobody calls; at an address that is in no file, which that calls;
/// and once more in this program's code, whose caller is not known.
fn frames(text: &TextRow, code: &Code) -> [Row; 3] {
    let frame = |id, caller, code: Option<Code>| {
        let address = code
            .as_ref()
            .map_or(u64::MAX >> 8, |code| text.base().wrapping_add(code.offset));
        Row::Frame(Box::new(FrameRow {
            time_ns: 1,
            cpu: 0,
            pid: PID,
            tid: PID,
            id: FIRST_FRAME + id,
            caller,
            address,
            code,
        }))
    };
    let behind = |bytes| Code {
        offset: code.offset + bytes,
        ..code.clone()
    };
    [
        frame(0, OUTERMOST, Some(behind(2))),
        frame(1, FIRST_FRAME, None),
        frame(2, UNKNOWN_CALLER, Some(behind(3))),
    ]
}

fn fault(number: u64, text: &TextRow, code: &Code) -> Row {
    let odd = number % 2 == 1;
    let code = odd.then(|| Code {
        offset: code.offset + number % 4,
        ..code.clone()
    });
    Row::Fault(Box::new(ResolvedFault {
        fault: Fault {
            time_ns: number * 1000,
            cpu: (number % 2) as u32,
            pid: PID,
            tid: PID + (number % 3) as u32,
            address: number << 12,
            ip: code
                .as_ref()
                .map_or(u64::MAX >> 8, |code| text.base().wrapping_add(code.offset)),
            access: Access::ALL[number as usize % Access::ALL.len()],
            flags: (fault_flag::USER | fault_flag::FILE) as u16,
        },
        process: Some(name("fixture")),
        thread: Some(name(format!("worker {}", number % 3))),
        program: Some(name("/bin/fixture")),
        place: Some(Place {
            name: name(format!("/data/{}, \"{}\".bin", number % 7, number / 2)),
            permissions: name("rw-p"),
            file_offset: odd.then_some(number * 4096),
        }),
        code,
        kind: Kind::ALL[number as usize % Kind::ALL.len()],
        fate: Fate::ALL[number as usize % Fate::ALL.len()],
        attempts: 1 + (number % 3) as u32,
        returns: if odd { 1 + (number % 3) as u32 } else { 0 },
        duration_ns: odd.then_some(number),
        page_bytes: odd.then_some(4096 << (number % 10)),
        page_node: odd.then_some((number % 3) as u32),
        around: odd.then_some((number % 16) as u32),
        // A whole stack, and one that is cut off.
        stack: match number % 4 {
            0 => Some(FIRST_FRAME + 1),
            2 => Some(FIRST_FRAME + 2),
            _ => None,
        },
    }))
}

/// A file of which there is a copy, if a folder for them is given, after each change: what is left if the program is
/// killed then.
struct Filmed {
    file: File,
    path: PathBuf,
    folder: Option<PathBuf>,
    pictures: u32,
}

impl Filmed {
    fn picture(&mut self) -> io::Result<()> {
        if let Some(folder) = &self.folder {
            self.pictures += 1;
            fs::copy(
                &self.path,
                folder.join(format!("{:04}.arrow", self.pictures)),
            )?;
        }
        Ok(())
    }
}

impl Write for Filmed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.picture()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Destination for Filmed {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        match self.file.changeable() {
            Some(_) => Some(self),
            None => None,
        }
    }
}

impl Changeable for Filmed {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_over(bytes, at)?;
        self.picture()
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.file.cut_to(bytes)?;
        self.picture()
    }
}

/// The numbers of the faults as a recorder writes them: some come later than others of a later time, as their threads
/// did nothing for long.
fn in_file_order() -> impl Iterator<Item = u64> {
    let is_late = |number: &u64| number % 100 == 7;
    let late = (1..=FAULTS).filter(is_late);
    (1..=FAULTS)
        .filter(move |number| !is_late(number))
        .chain(late)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let path = arguments.next().ok_or("give the file to write")?;
    let folder = arguments.next().map(PathBuf::from);
    let file = Filmed {
        file: File::create(&path)?,
        path: path.clone().into(),
        folder: folder.clone(),
        pictures: 0,
    };
    let maps = fs::read("/proc/self/maps")?;
    let (text, code) = own_code(&parse_maps(PID, &maps)).ok_or("this program has no code")?;
    let metadata = Metadata {
        version: env!("CARGO_PKG_VERSION").into(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        kernel: "Linux".into(),
        command: "fixture".into(),
        clock: "CLOCK_MONOTONIC".into(),
        wall_offset_ns: 1_000_000,
        wall_error_ns: 1000,
        latency: true,
        attempts_apart: false,
        selection: String::new(),
        nodes: Nodes::parse("0:0 1:1").ok_or("no nodes")?,
        page_size: PageSize::default(),
        account: None,
    };
    let mut writer = Writer::new(file, &metadata)?;
    for (event, worker) in [
        (ThreadEvent::Present, 0),
        (ThreadEvent::Fork, 1),
        (ThreadEvent::Exec, 0),
        (ThreadEvent::Rename, 2),
        (ThreadEvent::Alive, 0),
    ] {
        writer.push(&Row::Thread(Box::new(ThreadRow {
            event,
            time_ns: 0,
            cpu: 0,
            pid: PID,
            tid: PID + worker,
            process: Some(name("fixture")),
            thread: Some(name(format!("worker {worker}"))),
            program: Some(name("/bin/fixture")),
            parent: Some(1),
            old_tid: Some(PID + 1),
            min_flt: 5,
            maj_flt: 6,
        })))?;
    }
    writer.push(&Row::Text(Box::new(TextRow {
        time_ns: 1,
        ..text.clone()
    })))?;
    for frame in frames(&text, &code) {
        writer.push(&frame)?;
    }
    for (count, number) in (1..).zip(in_file_order()) {
        writer.push(&fault(number, &text, &code))?;
        if count % BATCH == 0 {
            writer.flush()?;
        }
    }
    let mut time_ns = FAULTS * 1000;
    let mut next = || {
        time_ns += 1;
        time_ns
    };
    writer.push(&Row::Gap(GapRow {
        time_ns: next(),
        end_ns: next(),
        cpu: 0,
        pid: PID,
        tid: PID,
        count: 3,
    }))?;
    for how in [Loss::Dropped, Loss::Overwritten] {
        writer.push(&Row::Lost(LostRow {
            how,
            cpu: 1,
            time_ns: next(),
            end_ns: next(),
            count: 9,
        }))?;
    }
    writer.push(&Row::Thread(Box::new(ThreadRow {
        event: ThreadEvent::Exit,
        time_ns: next(),
        cpu: 0,
        pid: PID,
        tid: PID,
        process: Some(name("fixture")),
        thread: Some(name("worker 0")),
        program: None,
        parent: None,
        old_tid: None,
        min_flt: u64::MAX,
        maj_flt: 6,
    })))?;
    for (counter, cpu, count) in [
        (Counter::Hits, Some(0), FAULTS + 9),
        (Counter::Recorded, Some(0), FAULTS),
        (Counter::Dropped, Some(0), 9),
        (Counter::Overwritten, Some(0), 0),
        (Counter::Missed, None, 0),
        (Counter::SidebandDropped, Some(0), 0),
        (Counter::MissedReturns, None, 0),
        (Counter::End, None, FAULTS),
    ] {
        writer.push(&Row::Counter(CounterRow {
            counter,
            time_ns: next(),
            cpu,
            count,
        }))?;
    }
    writer.set_account(&Account {
        hits: FAULTS + 9,
        recorded: FAULTS,
        dropped: 9,
        ..Account::default()
    })?;
    writer.finish()?;
    if let Some(folder) = folder {
        let copy = File::create(folder.join("compact.arrow"))?;
        compact(File::open(path)?, copy, |_| {})?;
    }
    Ok(())
}
