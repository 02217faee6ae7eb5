// SPDX-License-Identifier: GPL-2.0-only

//! Records in, rows out: the sink of every recording that explains its faults.

use std::io;

use fault_tracer_client::{Mapping, Record};
use fault_tracer_trace::Row;

use crate::{Resolver, Sink};

/// Takes the rows of a recording.
pub trait Consumer {
    /// Takes the next row.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    fn row(&mut self, row: &Row) -> io::Result<()>;

    /// Makes what was taken readable to others.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    fn flush(&mut self) -> io::Result<()>;
}

/// Resolves records and hands the rows to a consumer.
#[derive(Debug)]
pub struct Rows<C> {
    resolver: Resolver,
    /// On their way to the consumer.
    rows: Vec<Row>,
    consumer: C,
}

impl<C: Consumer> Rows<C> {
    /// Rows that `resolver` makes, for `consumer`.
    pub fn new(resolver: Resolver, consumer: C) -> Self {
        Self {
            resolver,
            rows: Vec::new(),
            consumer,
        }
    }

    /// Takes a mapping that a process had before the recording.
    pub fn add_mapping(&mut self, mapping: &Mapping) {
        self.resolver.add_mapping(mapping);
    }

    /// See [`Resolver::stray_returns`].
    pub fn stray_returns(&self) -> u64 {
        self.resolver.stray_returns()
    }

    /// Who takes the rows.
    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Who takes the rows.
    pub fn consumer_mut(&mut self) -> &mut C {
        &mut self.consumer
    }

    /// Leaves who took the rows.
    pub fn into_consumer(self) -> C {
        self.consumer
    }

    /// Hands the rows on and gives their memory back.
    fn hand_on(&mut self) -> io::Result<()> {
        for row in self.rows.drain(..) {
            self.consumer.row(&row)?;
            self.resolver.reuse(row);
        }
        Ok(())
    }
}

impl<C: Consumer> Sink for Rows<C> {
    type Kept = Record;

    fn keep(&mut self, cpu: u32, record: Record) -> Option<Record> {
        match record {
            // Losses are reported when there is room again, after their time: they do not wait for a place in it.
            Record::Lost(_) => {
                self.resolver.push(cpu, record, &mut self.rows);
                None
            }
            other => {
                self.resolver.see_coming(cpu, &other);
                Some(other)
            }
        }
    }

    fn take(&mut self, cpu: u32, record: Record) -> io::Result<()> {
        self.resolver.push(cpu, record, &mut self.rows);
        self.hand_on()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.resolver.pending(&mut self.rows);
        self.hand_on()?;
        self.consumer.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.resolver.finish(&mut self.rows);
        self.hand_on()
    }
}
