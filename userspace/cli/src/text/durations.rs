// SPDX-License-Identifier: GPL-2.0-only

//! What a summary says of how long the faults took.

use fault_tracer_analysis::DurationsByKind;

use super::numbers::{counted, grouped, short};

/// The lines of the summary. `missed` is what the module counts of returns that it could not record.
pub fn lines(durations: &DurationsByKind, missed: u64) -> Vec<String> {
    let kinds = durations.kinds();
    let width = kinds.iter().map(|(kind, _)| kind.name().len()).max();
    let width = width.unwrap_or(0);
    let mut lines: Vec<_> = kinds
        .into_iter()
        .map(|(kind, durations)| {
            format!(
                "{:width$}  median {}, 99 % {}, longest {} ({})",
                kind.name(),
                short(durations.quantile_ns(0.5)),
                short(durations.quantile_ns(0.99)),
                short(durations.most_ns()),
                grouped(durations.count())
            )
        })
        .collect();
    lines.push(format!(
        "durations: {}; {} without ({})",
        counted(durations.with(), "fault with one", "faults with one"),
        grouped(durations.without()),
        counted(missed, "return missed", "returns missed")
    ));
    if missed != 0 {
        lines.push(
            "returns missed: more than 4,096 faults were under way at once, or a ring was full; try \
             a larger --ring-kib"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_trace::{Kind, ResolvedFault};

    #[test]
    fn each_kind_has_a_line() {
        let mut durations = DurationsByKind::default();
        let mut fault = ResolvedFault {
            duration_ns: Some(1_000_000),
            ..ResolvedFault::default()
        };
        durations.add(&fault);
        durations.add(&fault);
        fault.kind = Kind::FileRead;
        fault.duration_ns = Some(5);
        durations.add(&fault);
        fault.duration_ns = None;
        durations.add(&fault);
        assert_eq!(
            lines(&durations, 0),
            [
                "zero-fill  median 1.00 ms, 99 % 1.00 ms, longest 1.00 ms (2)",
                "file-read  median 5 ns, 99 % 5 ns, longest 5 ns (1)",
                "durations: 3 faults with one; 1 without (0 returns missed)",
            ]
        );
        assert!(lines(&durations, 1)[3].contains("--ring-kib"));
    }
}
