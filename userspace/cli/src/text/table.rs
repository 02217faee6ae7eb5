// SPDX-License-Identifier: GPL-2.0-only

//! Tables whose numbers line up. What is long and of any length stands last.

/// A table: numbers to the right, words to the left.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heads: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

impl Table {
    /// A table with these columns.
    pub fn new(heads: &[(&'static str, Side)]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines: the heads, then the rows. A column in which no row has anything is left out.
    pub fn lines(&self) -> Vec<String> {
        let used: Vec<usize> = (0..self.heads.len())
            .filter(|&column| self.rows.iter().any(|row| !row[column].is_empty()))
            .collect();
        let heads: Vec<String> = self.heads.iter().map(|head| head.0.to_owned()).collect();
        let widths: Vec<usize> = used
            .iter()
            .map(|&column| {
                let cells = std::iter::once(&heads).chain(&self.rows);
                cells
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        std::iter::once(&heads)
            .chain(&self.rows)
            .map(|row| {
                let mut line = String::from("  ");
                for (&column, &width) in used.iter().zip(&widths) {
                    let cell = &row[column];
                    match self.heads[column].1 {
                        Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                        Side::Right => line.push_str(&format!("{cell:>width$}  ")),
                    }
                }
                line.truncate(line.trim_end().len());
                line
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_and_empty_columns_go() {
        let mut table = Table::new(&[
            ("faults", Side::Right),
            ("time", Side::Right),
            ("kind", Side::Left),
            ("mapping", Side::Left),
        ]);
        table.push(
            ["1,000", "", "zero-fill", "[heap]"]
                .map(Into::into)
                .to_vec(),
        );
        table.push(["7", "", "µ", "/a"].map(Into::into).to_vec());
        assert_eq!(
            table.lines(),
            [
                "  faults  kind       mapping",
                "   1,000  zero-fill  [heap]",
                "       7  µ          /a"
            ]
        );
    }
}
