// SPDX-License-Identifier: GPL-2.0-only

//! Rows in the order of their times, in bounded memory.
//!
//! A fault stands in a trace where its fate became known: at the next record of its thread. So a trace is nearly in
//! order, and [`WINDOW`] rows are enough to sort it, but for the faults of threads that did nothing for longer than
//! that: at most one of each thread for each window. These are found by reading the trace a first time, and put in
//! their places when it is read again. A trace of up to two windows is read once.

use std::{iter::Peekable, vec};

use crate::{file::ReadError, Row};

/// Rows that are sorted at once. A fault takes about 250 bytes, and twice as many rows are kept.
const WINDOW: usize = 1 << 16;

/// Gives the rows of a trace in the order of their times; rows of the same time stay in their order.
pub struct ByTime<I> {
    rows: I,
    window: Window,
    /// Sorted, to be given out.
    ready: vec::IntoIter<(u64, Row)>,
    late: Peekable<vec::IntoIter<Row>>,
    /// Late rows that were seen again, and how many there must be.
    late_again: usize,
    late_expected: usize,
    error: Option<ReadError>,
    ended: bool,
}

impl<I: Iterator<Item = Result<Row, ReadError>>> ByTime<I> {
    /// Takes the rows of a trace, and how to read them again, which is done where they are too many to be kept.
    ///
    /// # Errors
    ///
    /// Those of `again`. Errors among the rows are given out behind the rows before them.
    pub fn new<E>(first: I, again: impl FnOnce() -> Result<I, E>) -> Result<Self, E> {
        Self::with_window(first, again, WINDOW)
    }

    fn with_window<E>(
        mut first: I,
        again: impl FnOnce() -> Result<I, E>,
        size: usize,
    ) -> Result<Self, E> {
        let mut window = Window::new(size);
        let mut late = Vec::new();
        let mut error = None;
        let mut overflowed = false;
        for row in &mut first {
            match row {
                Ok(row) => late.extend(window.push(row)),
                Err(end) => {
                    error = Some(end);
                    break;
                }
            }
            overflowed |= window.overflow().is_some();
        }
        let mut by_time = Self {
            rows: first,
            ready: Vec::new().into_iter(),
            late: Vec::new().into_iter().peekable(),
            late_again: 0,
            late_expected: 0,
            error,
            ended: !overflowed,
            window,
        };
        if overflowed {
            late.sort_by_key(Row::time_ns);
            by_time.rows = again()?;
            by_time.window = Window::new(size);
            by_time.error = None;
            by_time.late_expected = late.len();
            by_time.late = late.into_iter().peekable();
        } else {
            by_time.ready = by_time.window.rest().into_iter();
        }
        Ok(by_time)
    }

    /// Sorts the next rows; false if there are none.
    fn refill(&mut self) -> bool {
        while !self.ended {
            match self.rows.next() {
                Some(Ok(row)) => self.late_again += usize::from(self.window.push(row).is_some()),
                end => {
                    self.ended = true;
                    self.error = end.and_then(Result::err);
                    if self.error.is_none() && self.late_again != self.late_expected {
                        self.error = Some(ReadError::Changed);
                    }
                    self.ready = self.window.rest().into_iter();
                    return true;
                }
            }
            if let Some(rows) = self.window.overflow() {
                self.ready = rows.into_iter();
                return true;
            }
        }
        false
    }
}

impl<I: Iterator<Item = Result<Row, ReadError>>> Iterator for ByTime<I> {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((time_ns, _)) = self.ready.as_slice().first() {
                // All rows of the late one's time that came before it are not late.
                let time_ns = *time_ns;
                if let Some(late) = self.late.next_if(|late| late.time_ns() < time_ns) {
                    return Some(Ok(late));
                }
                return self.ready.next().map(|(_, row)| Ok(row));
            }
            if !self.refill() {
                return self.late.next().map(Ok).or(self.error.take().map(Err));
            }
        }
    }
}

/// The rows that are sorted at once.
struct Window {
    size: usize,
    /// With their times, which would else be looked up all over the memory.
    rows: Vec<(u64, Row)>,
    /// Time of the last row that has left.
    last_ns: u64,
}

impl Window {
    fn new(size: usize) -> Self {
        Self {
            size,
            rows: Vec::new(),
            last_ns: 0,
        }
    }

    /// Takes a row, or gives it back where later ones have left.
    fn push(&mut self, row: Row) -> Option<Row> {
        let time_ns = row.time_ns();
        if time_ns < self.last_ns {
            return Some(row);
        }
        self.rows.push((time_ns, row));
        None
    }

    /// The earlier half of the rows, once there are two windows of them.
    fn overflow(&mut self) -> Option<Vec<(u64, Row)>> {
        if self.rows.len() < 2 * self.size {
            return None;
        }
        self.rows.sort_by_key(|(time_ns, _)| *time_ns);
        let later = self.rows.split_off(self.size);
        let earlier = std::mem::replace(&mut self.rows, later);
        self.last_ns = earlier.last().map_or(self.last_ns, |(time_ns, _)| *time_ns);
        Some(earlier)
    }

    /// All that are left.
    fn rest(&mut self) -> Vec<(u64, Row)> {
        self.rows.sort_by_key(|(time_ns, _)| *time_ns);
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counter, CounterRow};
    use proptest::prelude::*;

    /// Rows of some times, which know their places.
    fn rows(times: &[u64]) -> Vec<Row> {
        let rows = times.iter().enumerate().map(|(n, &time_ns)| {
            Row::Counter(CounterRow {
                counter: Counter::Hits,
                time_ns,
                cpu: None,
                count: n as u64,
            })
        });
        rows.collect()
    }

    fn ok(rows: Vec<Row>) -> vec::IntoIter<Result<Row, ReadError>> {
        rows.into_iter().map(Ok).collect::<Vec<_>>().into_iter()
    }

    fn sorted(times: &[u64], window: usize) -> Vec<Row> {
        let again = || Ok::<_, ReadError>(ok(rows(times)));
        let by_time = ByTime::with_window(ok(rows(times)), again, window).unwrap();
        by_time.map(Result::unwrap).collect()
    }

    #[test]
    fn a_small_trace_is_read_once() {
        let again = || Err::<vec::IntoIter<_>, _>("read again");
        let by_time = ByTime::with_window(ok(rows(&[3, 1, 2])), again, 2).unwrap();
        let times: Vec<_> = by_time.map(|row| row.unwrap().time_ns()).collect();
        assert_eq!(times, [1, 2, 3]);
    }

    #[test]
    fn an_error_comes_behind_the_rows_before_it() {
        let damaged = || {
            let mut all: Vec<_> = rows(&[5, 2, 9, 1, 7]).into_iter().map(Ok).collect();
            all.push(Err(ReadError::CutOff { bytes: 7 }));
            all.into_iter()
        };
        for window in 1..5 {
            let by_time =
                ByTime::with_window(damaged(), || Ok::<_, ReadError>(damaged()), window).unwrap();
            let mut all: Vec<_> = by_time.collect();
            assert!(matches!(
                all.pop(),
                Some(Err(ReadError::CutOff { bytes: 7 }))
            ));
            let times: Vec<_> = all.into_iter().map(|row| row.unwrap().time_ns()).collect();
            assert_eq!(times, [1, 2, 5, 7, 9]);
        }
    }

    #[test]
    fn a_trace_that_changes_is_an_error() {
        let again = || Ok::<_, ReadError>(ok(rows(&[4, 5, 6, 7, 8, 9])));
        let by_time = ByTime::with_window(ok(rows(&[4, 5, 6, 7, 8, 1])), again, 1).unwrap();
        let last = by_time.last();
        assert!(matches!(last, Some(Err(ReadError::Changed))), "{last:?}");
    }

    proptest! {
        #[test]
        fn rows_are_sorted_as_if_all_were_kept(
            times in prop::collection::vec(0..40u64, 0..60),
            window in 1..20usize,
        ) {
            let mut expected = rows(&times);
            expected.sort_by_key(Row::time_ns);
            prop_assert_eq!(sorted(&times, window), expected);
        }
    }
}
