// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer watch`: the faults of the last seconds, and what is seen of them.

use std::{collections::VecDeque, convert::Infallible, io, time::Duration};

use fault_tracer_analysis::fault_of;
use fault_tracer_plot::{drawing, key, Piece, Processes, Scene};
use fault_tracer_recorder::Consumer;
use fault_tracer_trace::{Metadata, Row};

use ratatui::Frame;
use rustix::time::{clock_gettime, ClockId};

use crate::{
    screen::Asked,
    showing::{Interval, Shown},
    text::numbers::{counted, grouped, short},
};

pub mod screen;

/// Rows that are kept at most: a picture of them is drawn in some hundredths of a second.
const ROWS_MOST: usize = 200_000;
/// How much time is shown.
const WINDOW_LEAST: Duration = Duration::from_secs(1);
const WINDOW_MOST: Duration = Duration::from_secs(3600);

/// Keeps what there was last, and shows it.
#[derive(Debug)]
pub struct Watch {
    /// What there was last.
    pub recent: Recent,
    /// What is seen.
    pub view: View,
}

impl Consumer for Watch {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.recent.add(row);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown for Watch {
    fn interval(&mut self, ended: &Interval) {
        self.view
            .show(&mut self.recent, now_ns(), ended.lost, ended.size);
    }

    fn text(&self) -> String {
        self.view.text()
    }

    fn draw(&self, frame: &mut Frame<'_>, colour: bool) {
        screen::draw(frame, &self.view, colour);
    }

    fn typed(&mut self, letter: char) -> Asked {
        self.view.typed(letter)
    }
}

/// Now, on the recording's clock.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // CAST: it begins with the machine, and is not negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The faults of the last time, and the threads' events between them.
#[derive(Debug, Default)]
pub struct Recent {
    rows: VecDeque<Row>,
    /// Faults since the beginning.
    total: u64,
    /// The last time of what had to be given up for lack of room, 0 if nothing had.
    given_up_ns: u64,
}

impl Recent {
    /// Takes a row.
    fn add(&mut self, row: &Row) {
        let is_fault = fault_of(row).is_some();
        self.total += u64::from(is_fault);
        if is_fault || matches!(row, Row::Thread(_)) {
            self.rows.push_back(row.clone());
            if self.rows.len() > ROWS_MOST {
                let oldest = self.rows.pop_front();
                self.given_up_ns = oldest.map_or(self.given_up_ns, |row| row.time_ns());
            }
        }
    }

    /// Forgets what was before a time.
    fn forget(&mut self, before_ns: u64) {
        while (self.rows.front()).is_some_and(|row| row.time_ns() < before_ns) {
            self.rows.pop_front();
        }
    }
}

/// What is seen.
#[derive(Debug)]
pub struct View {
    /// What is traced, in words.
    pub what: String,
    /// How much time is shown.
    pub window: Duration,
    /// The view stands still; recording goes on.
    pub paused: bool,
    /// The keys are explained.
    pub help: bool,
    header: String,
    picture: Vec<Vec<Piece>>,
    /// When the header was made last, on the trace's clock, and how many faults there had been.
    last: Option<(u64, u64)>,
}

impl View {
    /// Of so much time.
    pub fn new(what: String, window: Duration) -> Self {
        Self {
            what,
            window: window.clamp(WINDOW_LEAST, WINDOW_MOST),
            paused: false,
            help: false,
            header: String::new(),
            picture: Vec::new(),
            last: None,
        }
    }

    /// Draws what there is now, on a terminal of so many columns and lines, unless the view stands still.
    pub fn show(
        &mut self,
        recent: &mut Recent,
        now_ns: u64,
        lost: u64,
        (width, height): (u16, u16),
    ) {
        // CAST: at most an hour.
        let window_ns = self.window.as_nanos() as u64;
        // More is kept than is shown, for a wider window.
        recent.forget(now_ns.saturating_sub(WINDOW_MOST.as_nanos() as u64));
        if self.paused {
            return;
        }
        let (before_ns, before) = self.last.unwrap_or((now_ns, recent.total));
        let seconds = now_ns.saturating_sub(before_ns) as f64 / 1e9;
        // CAST: a rate is far from 2^64.
        let rate = ((recent.total - before) as f64 / seconds.max(1e-9)).round() as u64;
        self.last = Some((now_ns, recent.total));
        let rate = if seconds > 0.0 {
            format!("{}/s, ", counted(rate, "fault", "faults"))
        } else {
            String::new()
        };
        self.header = format!(
            "{}: {rate}{} in all, {} lost",
            self.what,
            grouped(recent.total),
            grouped(lost)
        );
        let from_ns = now_ns.saturating_sub(window_ns);
        let from_ns = if recent.given_up_ns > from_ns {
            self.header += "; so many that less time is shown";
            recent.given_up_ns
        } else {
            from_ns
        };
        let rows = recent.rows.iter();
        let rows = rows.filter(|row| (from_ns..=now_ns).contains(&row.time_ns()));
        let scene = Scene::of(
            Metadata::default(),
            rows.map(Ok::<_, Infallible>),
            &mut (),
            Processes::Together,
        );
        let ends = [format!("-{}", short(now_ns - from_ns)), "now".to_owned()];
        self.picture = match scene {
            // Two lines are above and below it.
            Ok((scene, _)) => drawing(
                &scene.between(from_ns, now_ns),
                width.into(),
                usize::from(height.saturating_sub(2)),
                ends,
            ),
            Err((fault_tracer_plot::Error::Empty, _)) => {
                let text = format!("no fault in the last {}", short(now_ns - from_ns));
                vec![vec![Piece { text, access: None }]]
            }
            Err((error, _)) => vec![vec![Piece {
                text: error.to_string(),
                access: None,
            }]],
        };
    }

    /// One line on all of it.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The picture, as lines, and what its colours mean.
    pub fn picture(&self) -> impl Iterator<Item = Vec<Piece>> + '_ {
        self.picture.iter().cloned().chain([key()])
    }

    /// All of it without colours, with an empty line behind it.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.header);
        for line in &self.picture {
            let line: String = line.iter().map(|piece| piece.text.as_str()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
        text
    }

    /// A letter was typed.
    pub fn typed(&mut self, letter: char) -> Asked {
        match letter {
            'q' | 'Q' => return Asked::End,
            'p' | ' ' => self.paused = !self.paused,
            'h' | '?' => self.help = !self.help,
            '+' => self.window = (self.window / 2).max(WINDOW_LEAST),
            '-' => self.window = (self.window * 2).min(WINDOW_MOST),
            _ => {}
        }
        Asked::Nothing
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fault_tracer_trace::{Fault, ResolvedFault};

    const S: u64 = 1_000_000_000;

    fn fault(time_ns: u64, address: u64) -> Row {
        Row::Fault(Box::new(ResolvedFault {
            fault: Fault {
                time_ns,
                address,
                pid: 7,
                ..Fault::default()
            },
            ..ResolvedFault::default()
        }))
    }

    /// A hundred seconds, a fault in each tenth.
    fn recent() -> Recent {
        let mut recent = Recent::default();
        for tenth in 0..1000 {
            let row = fault(tenth * S / 10, 0x5600_0000_0000 + tenth * 4096);
            recent.add(&row);
        }
        recent
    }

    /// What is seen of it in the end.
    pub fn view() -> View {
        let mut view = View::new("process 7".into(), Duration::from_secs(20));
        let mut recent = recent();
        view.last = Some((98 * S, 980));
        view.show(&mut recent, 100 * S, 3, (60, 12));
        view
    }

    #[test]
    fn the_last_seconds_are_drawn() {
        let view = view();
        assert_eq!(
            view.header(),
            "process 7: 10 faults/s, 1,000 in all, 3 lost"
        );
        let text = view.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.iter().all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(text.contains("-20.0 s") && text.contains("now\n"), "{text}");
        let dots: u32 = text
            .chars()
            .filter(|dots| ('\u{2800}'..'\u{2900}').contains(dots))
            .map(|dots| (dots as u32 - 0x2800).count_ones())
            .sum();
        // 200 faults on 82 columns of dots.
        assert!((70..=200).contains(&dots), "{dots}\n{text}");
        // They rise from the left to the right.
        let first = lines[1].find(|dots| ('\u{2801}'..'\u{2900}').contains(&dots));
        let last = lines[lines.len() - 3].find(|dots| ('\u{2801}'..'\u{2900}').contains(&dots));
        assert!(first > last, "{text}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let mut view = View::new("all processes".into(), Duration::from_secs(5));
        view.show(&mut Recent::default(), 100 * S, 0, (80, 24));
        assert!(
            view.text().contains("no fault in the last 5.00 s"),
            "{}",
            view.text()
        );
        assert!(view.header().ends_with("0 in all, 0 lost"));
    }

    #[test]
    fn more_than_there_is_room_for_shortens_the_time() {
        let mut recent = Recent::default();
        for index in 0..ROWS_MOST as u64 + 5000 {
            recent.add(&fault(index * 1000, index * 4096));
        }
        assert_eq!(recent.rows.len(), ROWS_MOST);
        let mut view = View::new("all processes".into(), Duration::from_secs(5));
        view.show(&mut recent, S / 4, 0, (80, 24));
        assert!(view.header().ends_with("so many that less time is shown"));
        assert!(view.text().contains("-245 ms"), "{}", view.text());
        assert_eq!(recent.total, ROWS_MOST as u64 + 5000);
    }

    #[test]
    fn keys_change_the_view() {
        let mut view = view();
        for (letter, seconds) in [('+', 10), ('+', 5), ('-', 10)] {
            view.typed(letter);
            assert_eq!(view.window.as_secs(), seconds);
        }
        view.typed('p');
        let before = view.text();
        view.show(&mut recent(), 110 * S, 3, (60, 12));
        assert_eq!(view.text(), before, "it stands still");
        assert_eq!(view.typed('q'), Asked::End);
    }
}
