// SPDX-License-Identifier: GPL-2.0-only

//! What `top` and `watch` share: running processes are traced, and shown in each interval on the whole terminal or as
//! plain text.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use fault_tracer_client::{Clock, Stacks};
use fault_tracer_recorder::Consumer;
use ratatui::Frame;

use crate::{
    args::{HookName, TargetArgs},
    launch::{self, How, Launch, Live},
    output,
    screen::{Asked, Screen},
};

/// Keys are waited for no longer than this.
const PERIOD: Duration = Duration::from_millis(100);
/// Columns and lines of plain text.
const PLAIN: (u16, u16) = (100, 30);

/// What such a command takes.
#[derive(Args, Debug)]
pub struct Showing {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Write plain text for each interval
    #[arg(short, long)]
    pub batch: bool,

    /// End after so many intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
}

/// The end of an interval.
pub struct Interval {
    /// How long it was.
    pub length: Duration,
    /// Faults that were lost since the beginning.
    pub lost: u64,
    /// Columns and lines of what is shown on.
    pub size: (u16, u16),
}

/// Takes the rows, and shows them.
pub trait Shown: Consumer {
    /// An interval has ended.
    fn interval(&mut self, interval: &Interval);

    /// The last interval as plain text.
    fn text(&self) -> String;

    /// Draws the last interval.
    fn draw(&self, frame: &mut Frame<'_>, colour: bool);

    /// A letter was typed.
    fn typed(&mut self, letter: char) -> Asked;
}

impl Showing {
    /// Traces until it is ended. `begin` is told what is traced, in words; `instead` is what runs a command. The exit
    /// status.
    pub fn run<S: Shown>(
        &self,
        (delay, latency): (Duration, bool),
        instead: &str,
        begin: impl FnOnce(String) -> S,
    ) -> anyhow::Result<u8> {
        if !self.target.command.is_empty() {
            bail!("running processes are shown: {instead}");
        }
        if !self.batch && !io::stdout().is_terminal() {
            bail!("standard output is no terminal: --batch writes plain text");
        }
        let target = TargetArgs {
            all: self.target.all || !self.target.names_something(),
            ..self.target.clone()
        };
        let how = How {
            sideband: true,
            latency,
            stacks: Stacks::None,
            hook: HookName::Auto,
            clock: Clock::Monotonic,
            duration: None,
            on_demand: false,
        };
        let mut live = Launch::set_up(&target, &how)?.start()?;
        let shown = begin(live.what().to_owned());
        match self.show(&how, &mut live, delay, shown) {
            Ok(()) => live.close(None),
            Err(error) => {
                live.close(None)?;
                Err(error)
            }
        }
    }

    fn show<S: Shown>(
        &self,
        how: &How,
        live: &mut Live,
        delay: Duration,
        shown: S,
    ) -> anyhow::Result<()> {
        let mut screen = (!self.batch).then(Screen::take).transpose()?;
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut begin = Instant::now();
        let mut intervals = 0;
        let period = PERIOD.min(delay);
        let observed = launch::observe(live, how, shown, period, |shown, accounts| {
            let length = begin.elapsed();
            let ended = length >= delay;
            if ended {
                shown.interval(&Interval {
                    length,
                    lost: accounts.all.lost(),
                    size: screen.as_ref().map_or(Ok(PLAIN), Screen::size)?,
                });
                begin = Instant::now();
                intervals += 1;
            }
            match &mut screen {
                None if ended => output::print(&shown.text())?,
                None => {}
                Some(screen) => {
                    if screen.typed(|letter| shown.typed(letter))? == Asked::End {
                        return Ok(false);
                    }
                    screen.draw(|frame| shown.draw(frame, colour))?;
                }
            }
            Ok(self.iterations.is_none_or(|most| intervals < most))
        });
        drop(screen);
        launch::account_of(observed).map(|_| ())
    }
}
