// SPDX-License-Identifier: GPL-2.0-only

//! How a running recording is asked for what it has: by a socket that bears its process id.
//!
//! The socket has an abstract name (unix(7)), so that nothing is left behind. Whoever connects asks by that, and gets a
//! line: `ok PATH`, or `error TEXT`.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{anyhow, bail, Context as _};
use rustix::net::sockopt::socket_peercred;

use super::events::{Event, Sender};

/// What the sockets' names begin with.
const PREFIX: &str = "fault-tracer-on-demand-";

/// Who asks for an answer that does not come is told so after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who asks for what is recorded.
#[derive(Debug)]
pub enum Asker {
    /// A signal; nobody waits for an answer.
    Signal,
    /// The end of a traced process, in words.
    BadEnd(String),
    /// `fault-tracer snapshot`, at the other end.
    Snapshot(UnixStream),
}

impl Asker {
    /// Tells who asks what became of it.
    pub fn answer(self, written: Result<&Path, &anyhow::Error>) {
        let Self::Snapshot(mut stream) = self else {
            return;
        };
        let line = match written {
            Ok(path) => format!("ok {}\n", path.display()),
            Err(error) => format!("error {}\n", format!("{error:#}").replace('\n', " ")),
        };
        // Who has gone meanwhile needs no answer.
        let _ = stream.write_all(line.as_bytes());
    }
}

fn address(pid: u32) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from_abstract_name(format!("{PREFIX}{pid}"))?)
}

/// Sends [`Event::Asked`] for each that connects and may ask: the same user, and root.
pub fn listen(events: Sender) -> anyhow::Result<()> {
    let listener = UnixListener::bind_addr(&address(std::process::id())?)
        .context("no socket can be made for fault-tracer snapshot")?;
    let own = rustix::process::geteuid();
    thread::Builder::new()
        .name("asking".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                match socket_peercred(&stream) {
                    Ok(peer) if peer.uid.is_root() || peer.uid == own => {
                        events.send(Event::Asked(Asker::Snapshot(stream)));
                    }
                    _ => {
                        let mut stream = stream;
                        let refusal = b"error the recording belongs to another user\n";
                        // As in `answer`.
                        let _ = stream.write_all(refusal);
                    }
                }
            }
        })?;
    Ok(())
}

/// The process ids of the recordings that can be asked.
pub fn recordings() -> anyhow::Result<Vec<u32>> {
    let list = "/proc/net/unix";
    let text = fs::read(list).with_context(|| format!("{list} cannot be read"))?;
    Ok(listed(&String::from_utf8_lossy(&text)))
}

/// Those in `/proc/net/unix`, where abstract names begin with `@`. A connection has the name of its socket, too.
fn listed(text: &str) -> Vec<u32> {
    let name = |line: &str| {
        let name = line.rsplit(' ').next()?.strip_prefix('@')?;
        name.strip_prefix(PREFIX)?.parse().ok()
    };
    let mut found: Vec<u32> = text.lines().filter_map(name).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Asks a recording to write what it has. The path of the file.
pub fn ask(pid: u32) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect_addr(&address(pid)?).map_err(|error| {
        anyhow!("process {pid} is no recording with --on-demand, or it has ended ({error})")
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("the recording of process {pid} does not answer"))?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", path)) => Ok(path.to_owned()),
        Some(("error", text)) => bail!("the recording of process {pid} says: {text}"),
        _ => bail!("the recording of process {pid} has ended before it answered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::events;

    #[test]
    fn recordings_are_found_in_the_list_of_sockets() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000: 00000002 00000000 00010000 0001 01 1 /run/x\n\
                    0000: 00000002 00000000 00010000 0001 01 2 @fault-tracer-on-demand-77\n\
                    0000: 00000003 00000000 00000000 0001 03 3 @fault-tracer-on-demand-77\n\
                    0000: 00000002 00000000 00010000 0001 01 4 @fault-tracer-on-demand-x\n\
                    0000: 00000002 00000000 00010000 0001 01 5\n";
        assert_eq!(listed(text), [77]);
    }

    #[test]
    fn who_asks_is_answered() {
        let (sender, receiver) = events::channel().unwrap();
        listen(sender).unwrap();
        let own = std::process::id();
        assert!(recordings().unwrap().contains(&own));
        for (written, expected) in [(true, Ok("/a b.arrows")), (false, Err("no room"))] {
            let asking = thread::spawn(move || ask(own));
            let Event::Asked(asker) = receiver.next().unwrap() else {
                panic!("another event");
            };
            match written {
                true => asker.answer(Ok(Path::new("/a b.arrows"))),
                false => asker.answer(Err(&anyhow!("no room"))),
            }
            let answer = asking.join().unwrap();
            match expected {
                Ok(path) => assert_eq!(answer.unwrap(), path),
                Err(text) => assert!(answer.unwrap_err().to_string().contains(text)),
            }
        }
        let text = ask(u32::MAX).unwrap_err().to_string();
        assert!(text.contains("is no recording with --on-demand"), "{text}");
    }
}
