// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer diff` shows.

use fault_tracer_analysis::{
    diff::{compare, Certainty, Change, ChangedGroup, Side as Measured},
    Groups,
};
use serde_json::{json, Map, Value as Json};

use super::{
    advise::part,
    numbers::{counted, grouped, percent, short},
    report::value,
    report_json::{self, pretty, VERSION},
    style::Style,
    table::{Side, Table},
};
use crate::commands::diff::{Arguments, Sides};

/// How a number is written.
type Write = fn(u64) -> String;

/// The text.
pub fn text(arguments: &Arguments, sides: &Sides, style: Style) -> String {
    let mut lines = vec![
        style.bold(&format!(
            "{} before, {} after",
            counted(sides.before.len() as u64, "run", "runs"),
            counted(sides.after.len() as u64, "run", "runs")
        )),
        String::new(),
    ];
    let mut totals = Table::new(&[
        ("", Side::Left),
        ("before", Side::Right),
        ("", Side::Left),
        ("after", Side::Right),
        ("", Side::Left),
        ("change", Side::Right),
        ("", Side::Left),
    ]);
    for (name, change, write) in total_changes(sides) {
        if change.before.mean == 0.0 && change.after.mean == 0.0 {
            continue;
        }
        let mut row = vec![name.to_owned()];
        row.extend(cells(&change, write));
        totals.push(row);
    }
    lines.extend(totals.lines());
    if sides.before.len() < 2 || sides.after.len() < 2 {
        lines.push(String::new());
        lines.push(
            "  ? One run of a side does not tell change from chance: give two or more of each."
                .into(),
        );
    }
    for index in 0..sides.before[0].groups.len() {
        let (keys, changed) = changed(arguments, sides, index);
        let keys: Vec<_> = keys.iter().map(|key| (*key, key.name())).collect();
        let names: Vec<_> = keys.iter().map(|key| key.1).collect();
        lines.push(String::new());
        lines.push(style.bold(&format!("By {}", names.join(", "))));
        let with_time = changed
            .iter()
            .any(|group| group.time.before.mean + group.time.after.mean != 0.0);
        let mut heads = vec![
            ("faults before", Side::Right),
            ("", Side::Left),
            ("after", Side::Right),
            ("", Side::Left),
            ("change", Side::Right),
            ("", Side::Left),
            ("time", Side::Right),
            ("", Side::Left),
            ("pages", Side::Right),
            ("", Side::Left),
        ];
        heads.extend(names.iter().map(|name| (*name, Side::Left)));
        let mut table = Table::new(&heads);
        let differs = |group: &&ChangedGroup| {
            [&group.faults, &group.time, &group.pages]
                .iter()
                .any(|change| change.difference() != 0.0)
        };
        let all: Vec<_> = changed.iter().filter(differs).collect();
        let shown = if arguments.top == 0 {
            all.len()
        } else {
            arguments.top
        };
        for group in all.iter().take(shown) {
            let mut row = cells(&group.faults, grouped);
            let signed = |change: &Change, write| {
                let [.., difference, mark] = &cells(change, write)[..] else {
                    unreachable!("a change has cells");
                };
                [difference.clone(), mark.clone()]
            };
            if with_time {
                row.extend(signed(&group.time, short));
            } else {
                row.extend([String::new(), String::new()]);
            }
            row.extend(signed(&group.pages, grouped));
            row.extend(
                keys.iter()
                    .zip(&group.values)
                    .map(|(key, of)| value(key.0, of)),
            );
            table.push(row);
        }
        if table.is_empty() {
            lines.push("  no difference".into());
            continue;
        }
        lines.extend(table.lines());
        if let Some(more @ 1..) = all.len().checked_sub(shown) {
            lines.push(format!(
                "  and {} more (--top 0 shows all)",
                grouped(more as u64)
            ));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn total_changes(sides: &Sides) -> [(&'static str, Change, Write); 4] {
    [
        (
            "faults",
            sides.change(|run| run.overview.counts.faults),
            grouped,
        ),
        (
            "major",
            sides.change(|run| run.overview.counts.major),
            grouped,
        ),
        (
            "time in faults",
            sides.change(|run| run.overview.counts.time_ns),
            short,
        ),
        ("duration", sides.change(|run| run.overview.span_ns), short),
    ]
}

/// The groups of a table, compared.
fn changed(
    arguments: &Arguments,
    sides: &Sides,
    index: usize,
) -> (Vec<fault_tracer_analysis::Key>, Vec<ChangedGroup>) {
    let before: Vec<&Groups> = sides.before.iter().map(|run| &run.groups[index]).collect();
    let after: Vec<&Groups> = sides.after.iter().map(|run| &run.groups[index]).collect();
    let keys = before[0].keys().to_vec();
    (keys, compare(&before, &after, arguments.sort.into()))
}

/// Before and after with their deviations, the difference, and what it is worth.
fn cells(change: &Change, write: Write) -> Vec<String> {
    // CAST: means of counts.
    let mean = |side: &Measured| write(side.mean.round() as u64);
    let deviation = |side: &Measured| match side.deviation {
        Some(deviation) if side.mean > 0.0 => format!("± {}", percent(deviation / side.mean)),
        _ => String::new(),
    };
    let difference = change.difference();
    let sign = if difference < 0.0 { "-" } else { "+" };
    let text = match (difference == 0.0, change.part()) {
        (true, _) => "0".to_owned(),
        (false, Some(_)) => format!(
            "{sign}{} ({})",
            write(difference.abs().round() as u64),
            part(change)
        ),
        (false, None) => format!("{sign}{} (new)", write(difference.abs().round() as u64)),
    };
    let mark = match change.certainty() {
        _ if difference == 0.0 => "",
        Certainty::Change => "",
        Certainty::Chance => "may be chance",
        Certainty::Unknown => "?",
    };
    vec![
        mean(&change.before),
        deviation(&change.before),
        mean(&change.after),
        deviation(&change.after),
        text,
        mark.to_owned(),
    ]
}

/// A change as JSON.
fn change_json(change: &Change) -> Json {
    json!({
        "before": change.before.mean,
        "before_deviation": change.before.deviation,
        "after": change.after.mean,
        "after_deviation": change.after.deviation,
        "certainty": change.certainty().name(),
    })
}

/// The same as JSON, docs/json.md.
pub fn json(arguments: &Arguments, sides: &Sides) -> String {
    let tables = (0..sides.before[0].groups.len()).map(|index| {
        let (keys, changed) = changed(arguments, sides, index);
        let groups = changed.iter().map(|group| {
            let mut json = Map::new();
            for (key, of) in keys.iter().zip(&group.values) {
                json.insert(report_json::member(*key).into(), report_json::value(of));
            }
            json.insert("faults".into(), change_json(&group.faults));
            json.insert("time_ns".into(), change_json(&group.time));
            json.insert("pages".into(), change_json(&group.pages));
            Json::from(json)
        });
        json!({
            "by": keys.iter().map(|key| key.name()).collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
        })
    });
    let [faults, major, time, span] = total_changes(sides).map(|total| change_json(&total.1));
    pretty(&json!({
        "schema": "fault-tracer.diff",
        "version": VERSION,
        "runs_before": sides.before.len(),
        "runs_after": sides.after.len(),
        "totals": {"faults": faults, "major": major, "time_ns": time, "span_ns": span},
        "tables": tables.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_what_it_is_worth() {
        let change = |before: &[u64], after: &[u64]| Change {
            before: Measured::of(before),
            after: Measured::of(after),
        };
        let text = |of: Change| cells(&of, grouped).join("|");
        assert_eq!(text(change(&[100], &[150])), "100||150||+50 (+50.0 %)|?");
        assert_eq!(text(change(&[0], &[7])), "0||7||+7 (new)|?");
        assert_eq!(
            text(change(&[100, 100], &[50, 50])),
            "100|± 0 %|50|± 0 %|-50 (-50.0 %)|"
        );
        assert_eq!(
            text(change(&[90, 110], &[95, 115])),
            "100|± 14.1 %|105|± 13.5 %|+5 (+5.0 %)|may be chance"
        );
        assert_eq!(text(change(&[5], &[5])), "5||5||0|");
    }
}
