// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer status`: what the module is doing now.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use fault_tracer_client::{
    uapi::{self, names::escape, session_flag, SessionInfo},
    Mode, Session,
};

use crate::{
    launch::kernel,
    text::numbers::{counted, duration, grouped},
};

/// Runs the subcommand; returns the exit status.
pub fn run() -> anyhow::Result<u8> {
    let session = Session::open()?;
    let mut sessions = Vec::new();
    for index in 0..session.max_sessions() {
        sessions.extend(session.overview(index)?);
    }
    let text = render(&session.info()?, &kernel(), &sessions);
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}

/// Writes the overview.
fn render(info: &uapi::Info, kernel: &str, sessions: &[SessionInfo]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<13} {value}");
    };
    line(
        "fault-tracer",
        &format!("{} (ABI {})", env!("CARGO_PKG_VERSION"), uapi::ABI_VERSION),
    );
    line(
        "module",
        &format!(
            "loaded (ABI {}), {}",
            info.abi_version,
            counted(info.cpus.into(), "CPU", "CPUs")
        ),
    );
    line("kernel", kernel);
    if sessions.is_empty() {
        line(
            "tracing",
            "nothing: no session is running, and the probe is not armed",
        );
    } else {
        line(
            "tracing",
            &format!(
                "{} of at most {}",
                counted(sessions.len() as u64, "session", "sessions"),
                info.max_sessions
            ),
        );
    }
    for session in sessions {
        text.push_str(&render_session(session));
    }
    text
}

fn render_session(session: &SessionInfo) -> String {
    let comm = session.owner_comm.split(|&byte| byte == 0).next();
    let comm = escape(comm.unwrap_or_default());
    let mut text = format!(
        "\nsession {}, started by {} (process {}){}\n",
        session.index,
        comm,
        session.owner_pid,
        if session.flags & session_flag::BOOT != 0 {
            " as the module's parameters ask"
        } else {
            ""
        }
    );
    let mode = Mode::from_code(session.mode).map_or_else(
        || format!("unknown mode {}", session.mode),
        |mode| format!("mode {}", mode.name()),
    );
    let mut settings = format!("{mode}, ring of {} KiB per CPU", session.ring_bytes / 1024);
    for (flag, yes, no) in [
        (
            session_flag::FOLLOW,
            ", children followed",
            ", children not followed",
        ),
        (
            session_flag::LOG,
            ", every fault printed to the kernel log",
            "",
        ),
        (session_flag::LATENCY, ", with durations", ""),
        (session_flag::FTRACE, ", by ftrace", ""),
        (
            session_flag::STACK_FRAMES | session_flag::STACK_COPY,
            ", with stacks",
            "",
        ),
    ] {
        settings.push_str(if session.flags & flag != 0 { yes } else { no });
    }
    let mut targets = if session.rules != 0 {
        format!(
            "chosen by {}, {} live",
            counted(session.rules, "rule", "rules"),
            session.live_targets
        )
    } else if session.flags & session_flag::ALL != 0 {
        format!("all processes, {} live", session.live_targets)
    } else {
        format!(
            "{} live, {} named",
            session.live_targets, session.named_targets
        )
    };
    if session.first_target != 0 {
        let _ = write!(targets, " (the first: process {})", session.first_target);
    }
    let rows = [
        ("settings", settings),
        ("targets", targets),
        (
            "running for",
            duration(Duration::from_nanos(session.running_ns)),
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<11} {value}");
    }
    let mut counts = vec![
        ("hits", session.hits),
        ("recorded", session.recorded),
        ("dropped", session.dropped),
        ("overwritten", session.overwritten),
        ("missed", session.missed),
    ];
    if session.flags & session_flag::LATENCY != 0 {
        counts.push(("no duration", session.missed_returns));
    }
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| (name, grouped(count)))
        .collect();
    let width = counts
        .iter()
        .map(|(_, count)| count.len())
        .max()
        .unwrap_or(0);
    for (name, count) in counts {
        let _ = writeln!(text, "  {name:<11} {count:>width$}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> uapi::Info {
        uapi::Info {
            abi_version: 2,
            cpus: 2,
            max_sessions: 16,
            ..Default::default()
        }
    }

    fn session() -> SessionInfo {
        SessionInfo {
            index: 3,
            present: 1,
            mode: uapi::mode::OVERWRITE,
            flags: session_flag::FOLLOW | session_flag::BOOT,
            owner_pid: 200,
            live_targets: 4,
            named_targets: 1,
            first_target: 77,
            owner_comm: *b"insmod\0\0\0\0\0\0\0\0\0\0",
            ring_bytes: 1 << 20,
            hits: 1_234_567,
            recorded: 1_234_000,
            overwritten: 567,
            running_ns: 12_340_000_000,
            ..Default::default()
        }
    }

    #[test]
    fn an_idle_module_says_so() {
        assert_eq!(
            render(&info(), "Linux 7.2.12 x86_64", &[]),
            format!(
                "fault-tracer  {} (ABI 2)\n\
                 module        loaded (ABI 2), 2 CPUs\n\
                 kernel        Linux 7.2.12 x86_64\n\
                 tracing       nothing: no session is running, and the probe is not armed\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn a_session_is_told_in_full() {
        assert_eq!(
            render_session(&session()),
            "\nsession 3, started by insmod (process 200) as the module's parameters ask\n\
             \u{20} settings    mode overwrite, ring of 1024 KiB per CPU, children followed\n\
             \u{20} targets     4 live, 1 named (the first: process 77)\n\
             \u{20} running for 12.3 s\n\
             \u{20} hits        1,234,567\n\
             \u{20} recorded    1,234,000\n\
             \u{20} dropped             0\n\
             \u{20} overwritten       567\n\
             \u{20} missed              0\n"
        );
        assert!(render(&info(), "", &[session()]).contains("tracing       1 session of at most 16"));
    }

    #[test]
    fn a_session_with_durations_tells_of_those_missed() {
        let text = render_session(&SessionInfo {
            flags: session_flag::LATENCY,
            missed_returns: 12,
            ..session()
        });
        assert!(text.contains(", with durations\n"), "{text}");
        assert!(text.contains("\n  no duration        12\n"), "{text}");
    }

    #[test]
    fn what_this_tool_does_not_know_is_shown_all_the_same() {
        let odd = SessionInfo {
            mode: 9,
            owner_comm: [b'x'; 16],
            ..session()
        };
        let text = render_session(&odd);
        assert!(text.contains("unknown mode 9") && text.contains("xxxxxxxxxxxxxxxx (process"));
    }
}
