// SPDX-License-Identifier: GPL-2.0-only

//! Small traces for tests.

use fault_tracer_trace::{
    Access, Fate, Fault, Kind, Metadata, PageSize, Place, ResolvedFault, Row, ThreadEvent,
    ThreadRow,
};

use crate::{input::Processes, scene::Scene, Error};

/// A fault of process 7.
pub fn fault(
    time_ns: u64,
    address: u64,
    place: Option<(&str, &str, Option<u64>)>,
) -> ResolvedFault {
    ResolvedFault {
        fault: Fault {
            time_ns,
            pid: 7,
            tid: 7,
            address,
            access: Access::Write,
            ..Fault::default()
        },
        process: Some("test".into()),
        place: place.map(|(name, permissions, file_offset)| Place {
            name: name.into(),
            permissions: permissions.into(),
            file_offset,
        }),
        kind: Kind::ZeroFill,
        fate: Fate::Minor,
        ..ResolvedFault::default()
    }
}

/// A row of a thread that is its process.
pub fn event(what: ThreadEvent, time_ns: u64, pid: u32, parent: u32) -> Row {
    Row::Thread(Box::new(ThreadRow {
        event: what,
        time_ns,
        cpu: 0,
        pid,
        tid: pid,
        process: None,
        thread: None,
        program: (what == ThreadEvent::Exec).then(|| "/bin/test".into()),
        parent: Some(parent),
        old_tid: None,
        min_flt: 0,
        maj_flt: 0,
    }))
}

/// The scene of rows.
pub fn scene(rows: Vec<Row>) -> Result<Scene, Error> {
    scene_of(rows, PageSize::default())
}

/// The scene of rows of a machine with such pages.
pub fn scene_of(rows: Vec<Row>, page_size: PageSize) -> Result<Scene, Error> {
    let metadata = Metadata {
        command: "test".into(),
        page_size,
        ..Metadata::default()
    };
    let rows = rows.into_iter().map(Ok::<_, std::convert::Infallible>);
    match Scene::of(metadata, rows, &mut (), Processes::Together) {
        Ok((scene, _)) => Ok(scene),
        Err((error, _)) => Err(error),
    }
}

/// Many faults that look random, in all kinds of regions, by several threads; the same each time.
pub fn many(faults: u64) -> Scene {
    let mut state = 1u64;
    let mut below = |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % limit
    };
    let mut time_ns = 1_000;
    let mut rows = Vec::new();
    for _ in 0..faults {
        time_ns += below(50_000);
        let page = below(3_000) * 4096 + below(4096);
        let mut fault = match below(4) {
            0 => fault(
                time_ns,
                0x5600_0000_0000 + page,
                Some(("[heap]", "rw-p", None)),
            ),
            1 => fault(
                time_ns,
                0x7f00_0000_0000 + page,
                Some(("/lib/a.so", "r-xp", Some(page))),
            ),
            2 => fault(
                time_ns,
                0x7e00_0000_0000 + page * 1000,
                Some(("[anon]", "rw-p", None)),
            ),
            _ => fault(time_ns, page, None),
        };
        // CAST: small.
        fault.fault.tid = 7 + below(5) as u32;
        fault.fault.access = Access::ALL[below(3) as usize];
        fault.kind = Kind::ALL[below(Kind::ALL.len() as u64) as usize];
        fault.fate = [Fate::Minor, Fate::Major][below(2) as usize];
        let scale = 1 << below(40);
        fault.duration_ns = (below(5) != 0).then(|| below(1 << 31) % scale);
        rows.push(Row::Fault(Box::new(fault)));
    }
    scene(rows).expect("it has faults")
}
