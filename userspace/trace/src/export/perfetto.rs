// SPDX-License-Identifier: GPL-2.0-only

//! Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open: for each process a track of
//! its fault rate, for each thread its faults, as far as they are not too many, for each CPU what was lost.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{json, Map, Value};

use super::{Export, Names};
use crate::{Fate, Loss, LostRow, Metadata, Name, ResolvedFault, Row, ThreadEvent};

/// Faults that are shown one by one. Browsers load some hundred MB at most; the rates have all faults.
const INSTANTS_MOST: u64 = 200_000;

/// The time over which a rate is taken.
const BUCKET_NS: u64 = 10_000_000;

/// What there are rates of.
const RATES: [&str; 3] = ["minor", "major", "other"];

pub struct Perfetto {
    first: bool,
    instants: u64,
    faults: u64,
    losses: u64,
    /// Counts of [`RATES`], by process and time.
    rates: BTreeMap<(u32, u64), [u64; 3]>,
    processes: BTreeMap<u32, Name>,
    threads: BTreeMap<(u32, u32), Name>,
}

impl Perfetto {
    pub fn begin(metadata: &Metadata, out: &mut dyn Write) -> io::Result<Self> {
        let Metadata {
            version,
            host,
            kernel,
            command,
            clock,
            wall_offset_ns,
            wall_error_ns,
            latency: _,
            attempts_apart: _,
            selection,
            nodes,
            page_size,
            account,
        } = metadata;
        let mut metadata = json!({
            "fault_tracer": version,
            "host": host,
            "kernel": kernel,
            "command": command,
            "clock": clock,
            "wall_offset_ns": wall_offset_ns,
            "wall_error_ns": wall_error_ns,
            "nodes": nodes.to_string(),
            "page_bytes": page_size.bytes(),
            "selection": selection,
        });
        if let Some(account) = account {
            for (name, count) in account.counts() {
                metadata[name] = json!(count);
            }
        }
        write!(
            out,
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{metadata},\"traceEvents\":["
        )?;
        Ok(Self {
            first: true,
            instants: 0,
            faults: 0,
            losses: 0,
            rates: BTreeMap::new(),
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
        })
    }

    fn event(&mut self, event: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if std::mem::take(&mut self.first) {
            b"\n"
        } else {
            b",\n"
        })?;
        serde_json::to_writer(out, event).map_err(Into::into)
    }

    fn fault(
        &mut self,
        fault: &ResolvedFault,
        names: &Names,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let record = &fault.fault;
        if fault.fate != Fate::Retried {
            let rates = self
                .rates
                .entry((record.pid, record.time_ns / BUCKET_NS))
                .or_default();
            rates[match fault.fate {
                Fate::Minor => 0,
                Fate::Major => 1,
                _ => 2,
            }] += 1;
        }
        self.faults += 1;
        if self.instants >= INSTANTS_MOST {
            return Ok(());
        }
        self.instants += 1;
        let place = fault.place.as_ref();
        let mut event = json!({
            "ph": "i",
            "s": "t",
            "cat": fault.fate.name(),
            "name": fault.kind.name(),
            "ts": micros(record.time_ns),
            "pid": record.pid,
            "tid": record.tid,
            "args": {
                "fate": fault.fate.name(),
                "access": record.access.name(),
                "address": format!("{:#x}", record.address),
                "ip": format!("{:#x}", record.ip),
                "symbol": names.symbol.as_ref().map(|symbol| format!("{}+{:#x}", symbol.name, symbol.offset)),
                "callers": names.callers_text(" < "),
                "object": fault.code.as_ref().map(|code| &*code.object.name),
                "mapping": place.map(|place| &*place.name),
                "file_offset": place.and_then(|place| place.file_offset),
                "cpu": record.cpu,
            },
        });
        if let Some(duration_ns) = fault.duration_ns {
            // A slice, of whose entries `s` is none.
            event["ph"] = "X".into();
            event["dur"] = micros(duration_ns).into();
            if let Some(entries) = event.as_object_mut() {
                entries.remove("s");
            }
        }
        self.event(&event, out)
    }

    /// An asynchronous slice, as those may overlap, on a track of the CPU: of no process.
    fn lost(&mut self, lost: &LostRow, out: &mut dyn Write) -> io::Result<()> {
        let (how, number) = match lost.how {
            Loss::Dropped => ("dropped", "faults"),
            Loss::Overwritten => ("overwritten", "faults_at_most"),
        };
        let mut event = json!({
            "ph": "b", "cat": "lost", "id": self.losses, "pid": 0, "tid": 0,
            "name": format!("faults {how} on CPU {}", lost.cpu),
            "ts": micros(lost.time_ns), "args": { number: lost.count },
        });
        self.losses += 1;
        self.event(&event, out)?;
        event["ph"] = "e".into();
        event["ts"] = micros(lost.end_ns).into();
        self.event(&event, out)
    }
}

/// Nanoseconds as the format's microseconds. 2^53 of them are more than a hundred days of nanoseconds.
fn micros(time_ns: u64) -> f64 {
    time_ns as f64 / 1000.0
}

impl Export for Perfetto {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        match row {
            Row::Fault(fault) => self.fault(fault, names, out),
            Row::Thread(thread) => {
                if let Some(name) = &thread.process {
                    self.processes.insert(thread.pid, name.clone());
                }
                if let Some(name) = &thread.thread {
                    self.threads.insert((thread.pid, thread.tid), name.clone());
                }
                let event = match thread.event {
                    ThreadEvent::Exec => json!({
                        "ph": "i", "s": "p", "name": "exec", "ts": micros(thread.time_ns),
                        "pid": thread.pid, "tid": thread.tid,
                        "args": { "program": thread.program.as_deref() },
                    }),
                    _ => return Ok(()),
                };
                self.event(&event, out)
            }
            Row::Lost(lost) => self.lost(lost, out),
            // Between faults that are shown, so that there are not more of them.
            Row::Gap(gap) if self.instants < INSTANTS_MOST => self.event(
                &json!({
                    "ph": "i", "s": "t", "cat": "gap",
                    "name": format!("gap: at least {} faults are not in the trace", gap.count),
                    "ts": micros(gap.end_ns), "pid": gap.pid, "tid": gap.tid,
                    "args": { "since_ns": gap.time_ns },
                }),
                out,
            ),
            Row::Pending(_) | Row::Text(_) | Row::Frame(_) | Row::Gap(_) | Row::Counter(_) => {
                Ok(())
            }
        }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rates = std::mem::take(&mut self.rates);
        let per_second = |count: u64| count * (1_000_000_000 / BUCKET_NS);
        // Each argument is a track of its own: none for what a process never has.
        let mut ever: BTreeMap<u32, [bool; 3]> = BTreeMap::new();
        for (&(pid, _), counts) in &rates {
            for (ever, &count) in ever.entry(pid).or_default().iter_mut().zip(counts) {
                *ever |= count > 0;
            }
        }
        let mut counter = |pid: u32, bucket: u64, counts: [u64; 3]| {
            let args: Map<String, Value> = RATES
                .into_iter()
                .zip(counts)
                .zip(ever[&pid])
                .filter(|&(_, ever)| ever)
                .map(|((name, count), _)| (name.to_owned(), per_second(count).into()))
                .collect();
            let event = json!({
                "ph": "C", "name": "faults/s", "pid": pid, "ts": micros(bucket * BUCKET_NS),
                "args": args,
            });
            self.event(&event, out)
        };
        for (&(pid, bucket), &counts) in &rates {
            counter(pid, bucket, counts)?;
            if !rates.contains_key(&(pid, bucket + 1)) {
                counter(pid, bucket + 1, [0; 3])?;
            }
        }
        for (pid, name) in std::mem::take(&mut self.processes) {
            let event = json!({
                "ph": "M", "name": "process_name", "pid": pid, "args": { "name": &*name },
            });
            self.event(&event, out)?;
        }
        for ((pid, tid), name) in std::mem::take(&mut self.threads) {
            let event = json!({
                "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": &*name },
            });
            self.event(&event, out)?;
        }
        writeln!(
            out,
            "\n],\"metadata\":{{\"faults\":{},\"faults_shown_one_by_one\":{}}}}}",
            self.faults, self.instants
        )
    }
}
