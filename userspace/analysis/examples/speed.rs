// SPDX-License-Identifier: GPL-2.0-only

//! How long the analysis takes, without reading a file:
//!
//!     cargo run --release -p fault-tracer-analysis --example speed [MILLIONS]
//!
//! The faults are of 8 processes of 3 programs, in 40 mappings, at pages in runs and at random.

use std::{error::Error, time::Instant};

use fault_tracer_analysis::{Analysis, Key, Wanted};
use fault_tracer_trace::{Access, Fate, Fault, Kind, Metadata, Name, Place, ResolvedFault, Row};

fn main() -> Result<(), Box<dyn Error>> {
    let millions: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())?;
    let programs: Vec<Name> = (0..3)
        .map(|n| format!("/usr/bin/program{n}").into())
        .collect();
    let mappings: Vec<Name> = (0..40)
        .map(|n| match n {
            0 => "[heap]".into(),
            1..=9 => "[anon]".into(),
            n => format!("/usr/lib/library{n}.so").into(),
        })
        .collect();
    let wanted = Wanted {
        groups: vec![vec![Key::Kind], vec![Key::Program], vec![Key::Mapping]],
        step_ns: 1_000_000_000,
        regions: true,
        ..Wanted::default()
    };
    let mut analysis = Analysis::new(&wanted, &Metadata::default());
    let rights: Name = "rw-p".into();
    let mut row = Row::Fault(Box::default());
    let mut state = 1u64;
    let begin = Instant::now();
    for n in 0..millions * 1_000_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let random = state >> 33;
        let mapping = (n / 64 % 40) as usize;
        let pid = 100 + (n / 1000 % 8) as u32;
        // Half of them one after the other, half anywhere in 4 GiB.
        let page = if n % 2 == 0 {
            n / 2
        } else {
            random % (1 << 20)
        };
        let Row::Fault(fault) = &mut row else {
            continue;
        };
        **fault = ResolvedFault {
            fault: Fault {
                time_ns: n * 700,
                cpu: (n % 4) as u32,
                pid,
                tid: pid,
                address: (page << 12) + ((mapping as u64) << 40),
                access: Access::Write,
                ..Fault::default()
            },
            program: Some(Name::clone(&programs[pid as usize % 3])),
            process: Some(Name::clone(&programs[pid as usize % 3])),
            place: Some(Place {
                name: Name::clone(&mappings[mapping]),
                permissions: Name::clone(&rights),
                file_offset: (mapping >= 10).then_some(page << 12),
            }),
            kind: if mapping < 10 {
                Kind::ZeroFill
            } else {
                Kind::FileRead
            },
            fate: Fate::Minor,
            duration_ns: Some(500 + random % 4000),
            ..ResolvedFault::default()
        };
        analysis.add(&row, &mut ());
    }
    let report = analysis.finish();
    println!(
        "{} faults in {:.2} s",
        report.overview.counts.faults,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
