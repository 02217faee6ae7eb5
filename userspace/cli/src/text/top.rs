// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer top` says in plain text.

use super::{
    numbers::{counted, grouped, short},
    table::{Side, Table},
};
use crate::top::{Count, Interval, View};

/// Rows of each list in plain text.
const ROWS: usize = 15;

/// One line on all of an interval.
pub fn header(view: &View) -> String {
    let interval = &view.interval;
    let time = if view.latency {
        format!(
            ", {}/s in faults",
            short(interval.rate(interval.all.time_ns))
        )
    } else {
        String::new()
    };
    format!(
        "{}: {}/s, {} major/s{time}; {} in all, {} lost",
        view.what,
        counted(interval.rate(interval.all.faults), "fault", "faults"),
        grouped(interval.rate(interval.all.major)),
        grouped(interval.total),
        grouped(interval.lost)
    )
}

/// One line on the kinds.
pub fn kinds(interval: &Interval) -> String {
    let kinds = interval.kinds.iter();
    let kinds = kinds
        .map(|(kind, count)| format!("{} {}", grouped(interval.rate(count.faults)), kind.name()));
    kinds.collect::<Vec<_>>().join(", ")
}

/// All of it, as `top -b` does.
pub fn batch(view: &View) -> String {
    let interval = &view.interval;
    let mut lines = vec![header(view), kinds(interval), String::new()];
    let processes = interval.processes.iter().map(|(pid, name, count)| {
        let name = name.as_deref().unwrap_or("[unknown]");
        (count, pid.to_string(), name)
    });
    lines.extend(list(view, "process", processes));
    lines.push(String::new());
    let mappings = interval.mappings.iter().map(|(name, count)| {
        let name = name.as_deref().unwrap_or("[unknown]");
        (count, String::new(), name)
    });
    lines.extend(list(view, "mapping", mappings));
    let mut text = lines.join("\n");
    text.push_str("\n\n");
    text
}

fn list<'a>(
    view: &View,
    name: &'static str,
    rows: impl Iterator<Item = (&'a Count, String, &'a str)>,
) -> Vec<String> {
    let mut table = Table::new(&[
        ("faults/s", Side::Right),
        ("major/s", Side::Right),
        ("time/s", Side::Right),
        ("PID", Side::Right),
        (name, Side::Left),
    ]);
    let interval = &view.interval;
    for (count, pid, name) in rows.take(ROWS) {
        let time = if view.latency {
            short(interval.rate(count.time_ns))
        } else {
            String::new()
        };
        table.push(vec![
            grouped(interval.rate(count.faults)),
            grouped(interval.rate(count.major)),
            time,
            pid,
            name.to_owned(),
        ]);
    }
    if table.is_empty() {
        return Vec::new();
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::tests::view;

    #[test]
    fn plain_text() {
        assert_eq!(
            batch(&view()),
            "\
all processes: 1,555 faults/s, 5 major/s, 2.02 ms/s in faults; 3,110 in all, 5 lost
1,550 zero-fill, 5 file-read

  faults/s  major/s   time/s  PID  process
     1,500        0  1.50 ms   42  cc1
        55        5   525 µs    7  postgres

  faults/s  major/s   time/s  mapping
     1,550        0  1.52 ms  [heap]
         5        5   500 µs  /var/lib/db

"
        );
    }
}
