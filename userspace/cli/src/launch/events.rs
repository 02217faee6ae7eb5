// SPDX-License-Identifier: GPL-2.0-only

//! What a recording waits for besides the rings: a queue whose receiver can be waited for together with
//! files.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process::ExitStatus,
    sync::{mpsc, Arc},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec},
    io::Errno,
};

use super::asking::Asker;

/// What happens besides the faults.
pub enum Event {
    /// A signal asks to end.
    Signal,
    /// The command has ended, when.
    CommandEnded(io::Result<ExitStatus>, Instant),
    /// Somebody wants what is recorded.
    Asked(Asker),
    /// A traced process has ended badly, in words.
    Ended(String),
    /// All traced processes have ended that were named.
    AllEnded,
}

/// Sends events.
#[derive(Clone)]
pub struct Sender {
    queue: mpsc::Sender<Event>,
    /// Counts the events that are sent and not received.
    count: Arc<OwnedFd>,
}

/// Receives events.
pub struct Receiver {
    queue: mpsc::Receiver<Event>,
    count: Arc<OwnedFd>,
}

/// A queue of events.
pub fn channel() -> anyhow::Result<(Sender, Receiver)> {
    let count = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE);
    let count = Arc::new(count.context("no event counter can be made")?);
    let (sender, receiver) = mpsc::channel();
    Ok((
        Sender {
            queue: sender,
            count: Arc::clone(&count),
        },
        Receiver {
            queue: receiver,
            count,
        },
    ))
}

impl Sender {
    /// Sends an event. Nobody may be there to receive it any more: then it is of no use.
    pub fn send(&self, event: Event) {
        if self.queue.send(event).is_ok() {
            // It fails only where 2^64 events were not received.
            let _ =
                rustix::io::retry_on_intr(|| rustix::io::write(&self.count, &1u64.to_ne_bytes()));
        }
    }
}

impl Receiver {
    /// A file that can be read when there is an event.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.count.as_fd()
    }

    /// Waits for the next event and takes it; `None` if there is none in that time.
    pub fn next_within(&self, time: Option<Duration>) -> anyhow::Result<Option<Event>> {
        let timeout = time.and_then(|time| Timespec::try_from(time).ok());
        let mut files = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
        match poll(&mut files, timeout.as_ref()) {
            Ok(0) => Ok(None),
            Ok(_) | Err(Errno::INTR) => self.next().map(Some),
            Err(errno) => Err(io::Error::from(errno)).context("events cannot be waited for"),
        }
    }

    /// Waits for the next event and takes it.
    pub fn next(&self) -> anyhow::Result<Event> {
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.count, &mut count))
            .map_err(|errno: Errno| io::Error::from(errno))
            .context("the event counter cannot be read")?;
        self.queue
            .recv()
            .context("the threads that wait for signals have ended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_make_the_file_readable_until_they_are_taken() {
        let (sender, receiver) = channel().unwrap();
        let readable = || {
            let mut files = [PollFd::from_borrowed_fd(receiver.as_fd(), PollFlags::IN)];
            poll(&mut files, Some(&Timespec::default())).unwrap() == 1
        };
        assert!(!readable());
        sender.clone().send(Event::Signal);
        sender.send(Event::Signal);
        for _ in 0..2 {
            assert!(readable());
            assert!(matches!(receiver.next().unwrap(), Event::Signal));
        }
        assert!(!readable());
        assert!(receiver
            .next_within(Some(Duration::ZERO))
            .unwrap()
            .is_none());
    }
}
