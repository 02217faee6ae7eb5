// SPDX-License-Identifier: GPL-2.0-only

//! A line on the terminal that says how a recording goes.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use super::numbers::{counted, grouped};

/// The line, written over each time. Only where standard error is a terminal.
pub struct LiveLine {
    /// When it was shown last, and the faults until then.
    last: Instant,
    faults: u64,
    terminal: bool,
    shown: bool,
}

impl LiveLine {
    /// Nothing is shown yet; and nothing ever if not `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self {
            last: Instant::now(),
            faults: 0,
            terminal: wanted && !crate::is_quiet() && io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Whether it is shown at all.
    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Shows how many faults there are, and how many were lost.
    pub fn show(&mut self, faults: u64, lost: u64) {
        if !self.terminal {
            return;
        }
        let elapsed = self.last.elapsed();
        let rate = (faults - self.faults) as f64 / elapsed.as_secs_f64();
        // A terminal that is gone is no reason to stop.
        let _ = write!(
            io::stderr(),
            "\r\x1b[Kfault-tracer: {}, {}/s, {} lost",
            counted(faults, "fault", "faults"),
            grouped(rate as u64),
            grouped(lost)
        );
        self.last = Instant::now();
        self.faults = faults;
        self.shown = true;
    }

    /// Takes it away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
