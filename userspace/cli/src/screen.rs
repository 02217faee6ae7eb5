// SPDX-License-Identifier: GPL-2.0-only

//! The whole terminal, for commands that show what happens now.

use std::time::Duration;

use anyhow::Context as _;
use ratatui::{
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::Rect,
    style::{Modifier, Style},
    text::Line,
    widgets::{Block, Clear, Paragraph},
    DefaultTerminal, Frame,
};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To go on.
    Nothing,
    /// To end.
    End,
}

/// The terminal, which is given back when this ends, however it does: a panic does so by itself.
pub struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Screen {
    /// Takes the terminal.
    pub fn take() -> anyhow::Result<Self> {
        ratatui::try_init()
            .map(Self)
            .context("the terminal cannot be used")
    }

    /// Its columns and lines.
    pub fn size(&self) -> anyhow::Result<(u16, u16)> {
        let size = self.0.size().context("the terminal has no size")?;
        Ok((size.width, size.height))
    }

    /// Draws all of it.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        self.0
            .draw(draw)
            .map(|_| ())
            .context("the terminal cannot be written to")
    }

    /// Takes the keys that were typed: Escape and Ctrl-C end, `typed` answers letters.
    pub fn typed(&self, mut typed: impl FnMut(char) -> Asked) -> anyhow::Result<Asked> {
        while event::poll(Duration::ZERO).context("keys cannot be waited for")? {
            let Event::Key(key) = event::read().context("keys cannot be read")? else {
                continue;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            let asked = match key.code {
                KeyCode::Esc => Asked::End,
                // The terminal sends no signal in this state.
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Asked::End,
                KeyCode::Char(letter) => typed(letter),
                _ => Asked::Nothing,
            };
            if asked == Asked::End {
                return Ok(asked);
            }
        }
        Ok(Asked::Nothing)
    }
}

/// Names the keys of a command, and those that all have.
pub fn keys(frame: &mut Frame<'_>, area: Rect, own: &str, paused: bool) {
    let state = if paused { "  standing still" } else { "" };
    let text = format!("{own}  p pause  h help  q quit{state}");
    let style = Style::default().add_modifier(Modifier::REVERSED);
    frame.render_widget(Line::styled(text, style), area);
}

/// Lays an explanation of the keys over what was drawn.
pub fn help(frame: &mut Frame<'_>, lines: &[&'static str]) {
    let whole = frame.area();
    let width = 56.min(whole.width);
    let height = (lines.len() as u16 + 2).min(whole.height);
    let area = Rect {
        x: (whole.width - width) / 2,
        y: (whole.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    let text: Vec<Line> = lines.iter().copied().map(Line::raw).collect();
    frame.render_widget(
        Paragraph::new(text).block(Block::bordered().title(" Keys ")),
        area,
    );
}
