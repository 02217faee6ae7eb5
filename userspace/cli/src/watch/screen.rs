// SPDX-License-Identifier: GPL-2.0-only

//! Draws the view on a terminal.

use fault_tracer_trace::Access;
use ratatui::{
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    Frame,
};

use super::View;
use crate::screen::{help, keys};

const HELP: [&str; 6] = [
    "+   show half as much time",
    "-   show twice as much time",
    "p   stand still, and go on",
    "h   show and hide this",
    "q   end",
    "Time goes to the right, addresses go upwards.",
];

/// Draws all of it; without colours if these are not wanted.
pub fn draw(frame: &mut Frame, view: &View, colour: bool) {
    let [top, picture, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let plain = Style::default();
    frame.render_widget(
        Line::styled(view.header(), plain.add_modifier(Modifier::BOLD)),
        top,
    );
    let style = |access: Option<Access>| match access.filter(|_| colour) {
        Some(Access::Read) => plain.fg(Color::Blue),
        Some(Access::Write) => plain.fg(Color::Yellow),
        Some(Access::Execute) => plain.fg(Color::Green),
        None => plain,
    };
    let lines = view.picture().map(|line| {
        let pieces = line.into_iter();
        Line::from_iter(pieces.map(|piece| Span::styled(piece.text, style(piece.access))))
    });
    frame.render_widget(Text::from_iter(lines), picture);
    keys(frame, bottom, "+ - time", view.paused);
    if view.help {
        help(frame, &HELP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tests::view;
    use ratatui::{backend::TestBackend, buffer::Cell, Terminal};

    fn screen(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, true)).unwrap();
        terminal
    }

    #[test]
    fn the_picture_has_colours() {
        let terminal = screen(&view(), 60, 14);
        let cells = &terminal.backend().buffer().content;
        let blue = cells.iter().filter(|cell| cell.fg == Color::Blue);
        let dots = |symbol: &str| ("\u{2801}".."\u{2900}").contains(&symbol);
        assert!(blue.clone().count() > 30);
        assert!(blue
            .clone()
            .all(|cell| dots(cell.symbol()) || cell.symbol() == " "));
        let text: String = cells.iter().map(Cell::symbol).collect();
        assert!(text.starts_with("process 7: 10 faults/s"));
        assert!(text.contains("+ - time  p pause"));
        assert!(text.contains(" read ") && text.contains(" execute "));
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
