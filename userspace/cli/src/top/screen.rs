// SPDX-License-Identifier: GPL-2.0-only

//! Draws the view on a terminal.

use ratatui::{
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Row, Sparkline, Table},
    Frame,
};

use super::{Count, Sort, View};
use crate::{
    screen::{help, keys},
    text::{
        numbers::{grouped, short},
        top::{header, kinds},
    },
};

const HELP: [&str; 8] = [
    "f   sort by faults",
    "m   sort by major faults",
    "t   sort by time (with --latency)",
    "p   stand still, and go on",
    "h   show and hide this",
    "q   end",
    "",
    "Numbers are those of the last interval, in a second.",
];

/// Draws all of it; without colours if these are not wanted.
pub fn draw(frame: &mut Frame, view: &View, colour: bool) {
    let plain = Style::default();
    let colour = |of: Color| if colour { plain.fg(of) } else { plain };
    let [top, rate, kinds_at, lists, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(
        Line::styled(header(view), plain.add_modifier(Modifier::BOLD)),
        top,
    );
    // The last rates that have room, so that the newest is seen.
    let room = usize::from(rate.width);
    let rates: Vec<u64> = view
        .history
        .iter()
        .skip(view.history.len().saturating_sub(room))
        .copied()
        .collect();
    frame.render_widget(
        Sparkline::default().data(&rates).style(colour(Color::Cyan)),
        rate,
    );
    frame.render_widget(Line::raw(kinds(&view.interval)), kinds_at);
    let [processes, mappings] =
        Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(lists);
    let rows = view.interval.processes.iter().map(|(pid, name, count)| {
        let name = name.as_deref().unwrap_or("[unknown]");
        (count, format!("{pid:>7} {name}"))
    });
    list(
        frame,
        view,
        processes,
        "    PID process",
        rows,
        colour(Color::Red),
    );
    let rows = view.interval.mappings.iter().map(|(name, count)| {
        let name = name.as_deref().unwrap_or("[unknown]");
        (count, name.to_owned())
    });
    list(frame, view, mappings, "mapping", rows, colour(Color::Red));
    keys(frame, bottom, "f m t sort", view.paused);
    if view.help {
        help(frame, &HELP);
    }
}

fn list<'a>(
    frame: &mut Frame,
    view: &View,
    area: Rect,
    name: &'static str,
    rows: impl Iterator<Item = (&'a Count, String)>,
    major: Style,
) {
    let interval = &view.interval;
    let mark = |sort, head: &'static str| {
        if view.sort == sort {
            format!("{head}*")
        } else {
            head.to_owned()
        }
    };
    let mut widths = vec![Constraint::Length(10), Constraint::Length(8)];
    let mut heads = vec![
        format!("{:>10}", mark(Sort::Faults, "faults/s")),
        format!("{:>8}", mark(Sort::Major, "major/s")),
    ];
    if view.latency {
        widths.push(Constraint::Length(9));
        heads.push(format!("{:>9}", mark(Sort::Time, "time/s")));
    }
    widths.push(Constraint::Min(10));
    heads.push(name.to_owned());
    let rows = rows.take(usize::from(area.height)).map(|(count, name)| {
        let mut cells = vec![
            format!("{:>10}", grouped(interval.rate(count.faults))),
            format!("{:>8}", grouped(interval.rate(count.major))),
        ];
        if view.latency {
            cells.push(format!("{:>9}", short(interval.rate(count.time_ns))));
        }
        cells.push(name);
        let row = Row::new(cells);
        if count.major == 0 {
            row
        } else {
            row.style(major)
        }
    });
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(Style::default().add_modifier(Modifier::UNDERLINED)));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::tests::view;
    use ratatui::{backend::TestBackend, Terminal};

    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, true)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        (0..height)
            .map(|y| {
                let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn the_whole_screen() {
        let lines = screen(&view(), 110, 12);
        assert_eq!(
            lines,
            [
                "all processes: 1,555 faults/s, 5 major/s, 2.02 ms/s in faults; 3,110 in all, 5 lost",
                "█",
                "█",
                "█",
                "1,550 zero-fill, 5 file-read",
                " faults/s*  major/s    time/s     PID process      faults/s*  major/s    time/s mapping",
                "     1,500        0   1.50 ms      42 cc1              1,550        0   1.52 ms [heap]",
                "        55        5    525 µs       7 postgres             5        5    500 µs /var/lib/db",
                "",
                "",
                "",
                "f m t sort  p pause  h help  q quit",
            ]
        );
    }

    #[test]
    fn help_lies_over_it() {
        let mut view = view();
        view.typed('h');
        view.typed('p');
        let lines = screen(&view, 80, 24);
        assert!(
            lines.iter().any(|line| line.contains("┌ Keys ─")),
            "{lines:#?}"
        );
        assert!(
            lines.iter().any(|line| line.contains("│q   end ")),
            "{lines:#?}"
        );
        assert!(lines[23].ends_with("standing still"));
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut view = view();
        view.typed('h');
        for (width, height) in [(1, 1), (5, 3), (20, 6), (300, 100)] {
            screen(&view, width, height);
        }
    }
}
