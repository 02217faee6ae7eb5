// SPDX-License-Identifier: GPL-2.0-only

//! The signals that end a recording.

use std::{
    os::fd::OwnedFd,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{pidfd_send_signal, Signal};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::{exfiltrator::WithOrigin, SignalsInfo},
    low_level::siginfo::{Cause, Origin},
};

use crate::{
    inherited::is_ignored,
    launch::{
        asking::Asker,
        events::{Event, Sender},
    },
    say,
};

/// A terminal that closes sends its signals several times; only one that comes later than this after the
/// first is meant to end the tool at once.
const SECOND: Duration = Duration::from_millis(500);

/// Sends [`Event::Signal`] at the first signal, which it passes on to the command where the terminal has
/// not done so itself; ends the tool at the second.
pub fn watch(events: Sender, command: Option<Arc<OwnedFd>>) -> anyhow::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    // `nohup` is to be respected. That a shell lets the commands that it starts in the background ignore
    // SIGINT is not: a script could not end the recording then.
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals =
        SignalsInfo::<WithOrigin>::new(&wanted).context("signals cannot be handled")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut first: Option<Instant> = None;
            for origin in signals.forever() {
                match first {
                    Some(first) if first.elapsed() < SECOND => continue,
                    Some(_) => process::exit(128 + origin.signal),
                    None => first = Some(Instant::now()),
                }
                if let Some(command) = &command {
                    pass_on(&origin, command);
                }
                events.send(Event::Signal);
            }
        })?;
    Ok(())
}

/// Sends [`Event::Asked`] at each `SIGUSR1`.
pub fn watch_for_asking(events: Sender) -> anyhow::Result<()> {
    let mut signals =
        SignalsInfo::<WithOrigin>::new([SIGUSR1]).context("signals cannot be handled")?;
    thread::Builder::new()
        .name("asking".into())
        .spawn(move || {
            for _ in signals.forever() {
                events.send(Event::Asked(Asker::Signal));
            }
        })?;
    Ok(())
}

/// Passes a signal on to the command. What a terminal sends, it sends to the command as well.
fn pass_on(origin: &Origin, command: &OwnedFd) {
    if matches!(origin.cause, Cause::Kernel) {
        return;
    }
    let Some(signal) = Signal::from_named_raw(origin.signal) else {
        return;
    };
    match pidfd_send_signal(command, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => say(&format!(
            "the signal cannot be passed on to the command: {error}"
        )),
    }
}
