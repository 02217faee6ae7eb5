// SPDX-License-Identifier: GPL-2.0-only

//! The kernel log since a moment.

use std::{
    cell::RefCell,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// What no kernel may say. The second part is said by kernels that look for mistakes (`make test-debug-kernel`): most of
/// what they find has one of the first words.
const FORBIDDEN: [&str; 19] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "stall",
    "panicked at",
    "general protection",
    "unable to handle",
    // lockdep, which then looks no more
    "INFO: possible",
    "INFO: trying to register non-static key",
    "INFO: lockdep is turned off",
    "suspicious RCU usage",
    // list_debug, page_poison
    "kernel BUG",
    "list_add corruption",
    "list_del corruption",
    "pagealloc: ",
    // UBSAN, debug objects, kmemleak, the hung task detector
    "UBSAN:",
    "ODEBUG:",
    "new suspected memory leaks",
    "blocked for more than",
];

/// The messages of the kernel since [`Log::from_now`].
pub struct Log {
    file: RefCell<File>,
    lines: RefCell<Vec<String>>,
    /// How many of them [`Log::news`] has given out.
    reported: RefCell<usize>,
}

impl Log {
    /// All messages from now on.
    pub fn from_now() -> Self {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("cannot open /dev/kmsg");
        file.seek(SeekFrom::End(0))
            .expect("cannot go to the end of /dev/kmsg");
        Self {
            file: RefCell::new(file),
            lines: RefCell::default(),
            reported: RefCell::default(),
        }
    }

    fn read(&self) {
        let mut buffer = [0; 8192];
        loop {
            // One record at a time: "priority,sequence,time,flags;text", then lines of properties.
            match self.file.borrow_mut().read(&mut buffer) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&buffer[..length]);
                    let text = record.lines().next().unwrap_or_default();
                    let text = text.split_once(';').map_or(text, |(_, text)| text);
                    self.lines.borrow_mut().push(text.to_owned());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    panic!("the kernel log was overwritten before the test has read it")
                }
                Err(error) => panic!("cannot read /dev/kmsg: {error}"),
            }
        }
    }

    /// Forgets what the kernel has said so far, but for trouble: for tests that make it say more than it keeps.
    pub fn forget_all_but_trouble(&self) {
        self.read();
        self.lines.borrow_mut().retain(|line| is_trouble(line));
        self.reported.replace(self.lines.borrow().len());
    }

    /// What the module has said, without its prefix.
    pub fn of_module(&self) -> Vec<String> {
        self.read();
        let lines = self.lines.borrow();
        lines.iter().filter_map(|line| of_module(line)).collect()
    }

    /// What the module has said since the last call of this.
    pub fn news(&self) -> Vec<String> {
        self.read();
        let lines = self.lines.borrow();
        let reported = self.reported.replace(lines.len());
        lines[reported..]
            .iter()
            .filter_map(|line| of_module(line))
            .collect()
    }

    /// Messages that mean trouble.
    pub fn trouble(&self) -> Vec<String> {
        self.read();
        let lines = self.lines.borrow();
        lines
            .iter()
            .filter(|line| is_trouble(line))
            .cloned()
            .collect()
    }
}

fn is_trouble(line: &str) -> bool {
    // SLUB has the name of its cache in between.
    line.starts_with("BUG ") || FORBIDDEN.iter().any(|word| line.contains(word))
}

fn of_module(line: &str) -> Option<String> {
    line.strip_prefix("fault_tracer: ").map(str::to_owned)
}
