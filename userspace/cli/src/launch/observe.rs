// SPDX-License-Identifier: GPL-2.0-only

//! Recordings that are looked at as they run, and written nowhere.

use std::time::Duration;

use anyhow::{anyhow, bail};
use fault_tracer_client::Rings;
use fault_tracer_recorder::{Accounts, Consumer, Failure, Files, Recording, Resolver, Rows};
use fault_tracer_trace::Account;

use super::{How, Live};
use crate::args::{TargetArgs, NO_TARGET};

/// Gives this thread the priority back that it had: a recording raises it, and commands that are started afterwards
/// would inherit that.
struct Priority(Option<i32>);

impl Priority {
    fn keep() -> Self {
        Self(rustix::process::getpriority_process(None).ok())
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(priority) = self.0 {
            // To lower one's own priority is always allowed.
            let _ = rustix::process::setpriority_process(None, priority);
        }
    }
}

/// What a recording came to.
#[derive(Debug)]
pub struct Observed<C> {
    /// Who took the rows.
    pub consumer: C,
    /// What the module counts.
    pub accounts: Accounts,
}

/// Refuses a command line that names nothing to trace.
pub fn require_target(target: &TargetArgs) -> anyhow::Result<()> {
    if !target.names_something() {
        bail!(NO_TARGET);
    }
    Ok(())
}

/// Hands the rows of a recording to `consumer` until it has ended. Once in each `period`, when all rows until then
/// are handed over, `look` is called with what the module counts: it ends the recording by false.
///
/// # Errors
///
/// Those of the recording and of `look`.
pub fn observe<C: Consumer>(
    live: &mut Live,
    how: &How,
    consumer: C,
    period: Duration,
    mut look: impl FnMut(&mut C, &Accounts) -> anyhow::Result<bool>,
) -> Result<Observed<C>, Failure> {
    let _priority = Priority::keep();
    let session = live.session();
    let rings = Rings::by_mapping(&session)?;
    let mut resolver = Resolver::looking(Box::new(Files::new()));
    resolver.set_page_size(live.page_size());
    let rows = Rows::new(resolver, consumer);
    let mut recording = Recording::new(&session, rings, how.clock, rows)?;
    while let Some(due) = live.next_round(period)? {
        recording.round(due)?;
        if due {
            let accounts = recording.accounts()?;
            if !look(recording.sink_mut().consumer_mut(), &accounts)? {
                session.stop()?;
                break;
            }
        }
    }
    recording.take_rest()?;
    let accounts = recording.accounts()?;
    Ok(Observed {
        consumer: recording.into_sink().into_consumer(),
        accounts,
    })
}

/// The account of a recording; what became of its faults must close.
///
/// # Errors
///
/// If it does not, or if the recording failed.
pub fn account_of<C>(result: Result<Observed<C>, Failure>) -> anyhow::Result<(C, Account)> {
    let Observed { consumer, accounts } = match result {
        Ok(observed) => observed,
        Err(Failure::Module(error)) => return Err(error),
        Err(Failure::Output(error)) => return Err(error.into()),
    };
    let all = accounts.all;
    if all.hits != all.recorded + all.dropped + all.overwritten {
        return Err(anyhow!(
            "the module counts {} hits, but {} recorded, {} dropped and {} overwritten: please report this",
            all.hits,
            all.recorded,
            all.dropped,
            all.overwritten
        ));
    }
    Ok((consumer, all))
}
