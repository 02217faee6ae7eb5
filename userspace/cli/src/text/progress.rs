// SPDX-License-Identifier: GPL-2.0-only

//! How far a long step has come: a line on standard error, if that is a terminal and nobody asked for quiet.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A step that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Rows between two looks at the clock.
const ROWS: u64 = 1 << 16;

/// The line of a step.
pub struct Progress {
    bar: ProgressBar,
    began: std::time::Instant,
}

impl Progress {
    /// Nothing is shown yet, and nothing ever if not `wanted`. `done` says what is done to the rows.
    pub fn new(done: &'static str, wanted: bool) -> Self {
        // A terminal alone is drawn on, at most some times a second.
        let target = if crate::is_quiet() || !wanted {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        // It fails on templates that are wrong alone, and this one is tested.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(done);
        Self {
            bar,
            began: std::time::Instant::now(),
        }
    }

    /// So many rows are done.
    pub fn show(&self, rows: u64) {
        if self.began.elapsed() >= PATIENCE {
            self.bar.set_position(rows);
        }
    }
}

const TEMPLATE: &str = "fault-tracer: {human_pos} rows {msg} in {elapsed}, {per_sec}";

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Rows, of which it is shown how many have passed, if that is `wanted`.
pub fn shown<I: Iterator>(
    rows: I,
    done: &'static str,
    wanted: bool,
) -> impl Iterator<Item = I::Item> {
    let progress = Progress::new(done, wanted);
    let mut count = 0;
    rows.inspect(move |_| {
        count += 1;
        if count % ROWS == 0 {
            progress.show(count);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_a_form_and_nothing_is_lost_on_the_way() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
        assert!(shown(0..200_000, "counted", true).eq(0..200_000));
    }
}
