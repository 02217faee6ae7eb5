// SPDX-License-Identifier: GPL-2.0-only

//! What `fault-tracer report --trends` shows.

use fault_tracer_analysis::trends::{Shape, Trend};

use super::numbers::{counted, file_name, grouped, percent, short};

/// The lines on the trends, at most `most` of them; 0 is all.
pub fn lines(trends: &[Trend], most: usize) -> Vec<String> {
    if trends.is_empty() {
        return vec!["  The faults have no shape that is known.".into()];
    }
    let shown = if most == 0 { trends.len() } else { most };
    let numbered = trends.iter().take(shown).enumerate();
    numbered
        .flat_map(|(n, trend)| {
            let mut lines = vec![
                format!("  {:>2}. {}", n + 1, headline(trend)),
                format!("      {}", evidence(trend)),
            ];
            lines.extend(
                worth_trying(trend.shape).map(|line| format!("      Worth trying: {line}")),
            );
            lines
        })
        .collect()
}

/// The trends for a picture.
pub fn said(trends: &[Trend]) -> Vec<fault_tracer_plot::Trend> {
    let one = |trend: &Trend| {
        let tips = worth_trying(trend.shape).map(|line| format!("; worth trying: {line}"));
        fault_tracer_plot::Trend {
            text: headline(trend),
            detail: evidence(trend) + &tips.unwrap_or_default(),
            span_ns: trend.span_ns,
            mapping: trend.mapping.clone(),
        }
    };
    trends.iter().map(one).collect()
}

fn headline(trend: &Trend) -> String {
    let what = match trend.shape {
        Shape::Steady => "The faults never stop",
        Shape::Silence => "A long time has almost no faults",
        Shape::StartBurst => "A burst at the start",
        Shape::EndBurst => "A burst at the end",
        Shape::ExecStorm => "A storm of short programs",
        Shape::FewPrograms => "A few programs take most",
        Shape::ExecPrice => "The price of starting programs",
        Shape::CheapForks => "Forks that cost next to nothing",
        Shape::ForkCopies => "Copies after forks",
        Shape::TextWalk => "Code faults when it is executed",
        Shape::LateText => "Code is reached late",
        Shape::LibraryCopies => "Copies of library data",
        Shape::RandomFile => "A file is touched in no order",
        Shape::HeapRamp => "The heap grows page by page",
        Shape::Buffers => "Buffers are filled page by page",
        Shape::HugeSteps => "Memory comes in huge pages",
        Shape::RandomMemory => "Memory is touched first in no order",
        Shape::EvenPace => "Memory is touched first at an even pace",
        Shape::ReadThenWrite => "The page of zeros first, then a copy",
        Shape::KernelFirst => "The kernel touches memory first",
        Shape::TriedAgain => "Faults are tried again",
    };
    let faults = match trend.shape {
        Shape::TriedAgain => counted(trend.faults, "further attempt", "further attempts"),
        _ => counted(trend.faults, "fault", "faults"),
    };
    let mut text = format!("{what}: {faults} ({} of all)", percent(trend.part));
    if let Some((begin_ns, end_ns)) = trend.span_ns {
        text += &format!(", from {} to {}", seconds(begin_ns), seconds(end_ns));
    }
    text
}

/// A time since the first fault.
fn seconds(time_ns: u64) -> String {
    match time_ns {
        0 => "the first fault".into(),
        time_ns => short(time_ns),
    }
}

fn evidence(trend: &Trend) -> String {
    let of = |name: &str| {
        let found = trend.evidence.iter().find(|evidence| evidence.0 == name);
        found.map_or(0, |evidence| evidence.1)
    };
    let program = trend.program.as_deref().map_or("[unknown]", file_name);
    let mapping = trend.mapping.as_deref().unwrap_or("[unknown]");
    match trend.shape {
        Shape::Steady => format!(
            "{} of {} equal parts of the time see a quarter of the mean rate or more; the busiest, after {}, has {}",
            grouped(of("busy-steps")),
            grouped(of("steps")),
            seconds(of("peak-ns")),
            grouped(of("peak"))
        ),
        Shape::Silence => "at most 1 % of all faults in that time".into(),
        Shape::StartBurst => "the first twentieth of the time".into(),
        Shape::EndBurst => "at twice the rate of the tenth of the time before, or more".into(),
        Shape::ExecStorm => format!("half of {} start then", counted(of("execs"), "program", "programs")),
        Shape::FewPrograms => format!(
            "{} of {}, most of all {program}",
            grouped(of("few")),
            counted(of("programs"), "program", "programs")
        ),
        Shape::ExecPrice => format!(
            "{}; {program} alone {}, for {} or more each",
            counted(of("execs"), "program is started", "programs are started"),
            counted(of("runs"), "time", "times"),
            counted(of("fewest-faults"), "fault", "faults")
        ),
        Shape::CheapForks => format!(
            "{} a program, after 3 faults or fewer in the mean",
            counted(of("forks"), "new process executes", "new processes execute")
        ),
        Shape::ForkCopies => format!(
            "{}; most copies by {program}",
            counted(of("forks"), "process is made", "processes are made")
        ),
        Shape::TextWalk => match of("execs") {
            0 => format!("most in {program}"),
            execs => format!(
                "{} for each of {}; most in {program}",
                grouped(trend.faults / execs),
                counted(execs, "program that starts", "programs that start")
            ),
        },
        Shape::LateText => format!(
            "of {} in code, these come in the second half of the time; most in {program}",
            counted(of("all"), "fault", "faults")
        ),
        Shape::LibraryCopies => format!(
            "{} by the dynamic loader; most in {mapping} of {program}",
            grouped(of("by-loader"))
        ),
        Shape::TriedAgain => "each repeats the fault before: it waited for a page or gave up a lock".into(),
        Shape::EvenPace => format!("{mapping} of {program}, page after page"),
        Shape::RandomFile
        | Shape::HeapRamp
        | Shape::Buffers
        | Shape::HugeSteps
        | Shape::RandomMemory
        | Shape::ReadThenWrite
        | Shape::KernelFirst => format!(
            "{}; most, {}, in {mapping} of {program}",
            counted(of("mappings"), "mapping", "mappings"),
            grouped(of("in-the-largest"))
        ),
    }
}

/// What may help. `fault-tracer advise` says how much, where that can be reported.
fn worth_trying(shape: Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::Steady => "no warm-up helps; what counts is the cost of one fault, and their number per piece of work",
        Shape::Silence | Shape::CheapForks | Shape::HugeSteps => return None,
        Shape::StartBurst => "fewer and smaller libraries, static linking, a process that is kept instead of a new one",
        Shape::EndBurst => "leave by _exit where nothing is to be written: what runs at the end touches memory again",
        Shape::ExecStorm => "keep what the short programs find out, so that the next time need not ask again",
        Shape::FewPrograms => "look at these alone first: report --filter program=PATH",
        Shape::ExecPrice => "fewer processes rather than cheaper ones: a server, built-ins of the shell",
        Shape::ForkCopies => "posix_spawn or vfork before exec",
        Shape::TextWalk => "functions in the order of their first use, -ffunction-sections and --gc-sections, huge pages for code",
        Shape::LateText => "MADV_POPULATE_READ on the code at the start",
        Shape::LibraryCopies => "static linking, -Bsymbolic and hidden visibility: fewer relocations",
        Shape::RandomFile => "MAP_POPULATE or MADV_POPULATE_READ, if most of the file is needed",
        Shape::HeapRamp => "glibc.malloc.hugetlb=1, or an allocator that takes memory in larger pieces",
        Shape::Buffers => "MAP_POPULATE, or buffers as large as a huge page and more, and aligned to one",
        Shape::RandomMemory => "MADV_POPULATE_WRITE or huge pages, if most of it is needed",
        Shape::EvenPace => "larger pieces: each step takes one fault",
        Shape::ReadThenWrite => "write first what is written anyway, or MADV_POPULATE_WRITE",
        Shape::KernelFirst => "use one buffer again and again, or map files instead of reading them",
        Shape::TriedAgain => "a warm page cache; fewer changes of mappings while threads fault",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(shape: Shape) -> Trend {
        Trend {
            shape,
            faults: 1200,
            part: 0.4,
            program: Some("/usr/bin/cc1".into()),
            mapping: Some("[heap]".into()),
            span_ns: Some((0, 2_000_000_000)),
            evidence: vec![("execs", 20), ("mappings", 3), ("in-the-largest", 700)],
        }
    }

    #[test]
    fn each_shape_has_its_sentences() {
        for shape in Shape::ALL {
            let lines = lines(&[trend(shape)], 10);
            assert!((2..=3).contains(&lines.len()), "{lines:?}");
            assert!(lines.iter().all(|line| line.len() > 20), "{lines:?}");
        }
        let text = lines(&[trend(Shape::HeapRamp)], 10).join("\n");
        assert_eq!(
            text,
            "   1. The heap grows page by page: 1,200 faults (40.0 % of all), from the first fault to 2.00 s\n      \
             3 mappings; most, 700, in [heap] of cc1\n      \
             Worth trying: glibc.malloc.hugetlb=1, or an allocator that takes memory in larger pieces"
        );
    }

    #[test]
    fn as_many_are_shown_as_are_wanted() {
        let trends = Shape::ALL.map(trend);
        let heads = |most| {
            let lines = lines(&trends, most);
            lines
                .iter()
                .filter(|line| line.contains(" of all)"))
                .count()
        };
        assert_eq!((heads(3), heads(0)), (3, trends.len()));
        assert_eq!(lines(&[], 3).len(), 1);
    }
}
