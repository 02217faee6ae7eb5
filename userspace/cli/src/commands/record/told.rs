// SPDX-License-Identifier: GPL-2.0-only

//! What a trace that goes on in another file must tell again there: where objects lie in processes, and who called whom. Both
//! are told when faults first refer to them, and again in each further file.

use std::collections::{HashMap, HashSet};

use fault_tracer_trace::{
    Fault, FrameRow, Name, Row, TextRow, ThreadEvent, ThreadRow, FIRST_FRAME, OUTERMOST,
};

/// What was told, in this file and before.
#[derive(Debug, Default)]
pub struct Told {
    texts: HashMap<u32, HashMap<Name, Places>>,
    /// Processes whose first thread has ended: they are forgotten with this file. What is left of such a process, if other
    /// threads of it go on, has its instruction pointers without objects in the next one.
    ended: HashSet<u32>,
    /// By their ids.
    frames: Vec<Frame>,
    /// Stacks of processes all of whose code is in this file.
    stacks_here: HashSet<(u32, u32)>,
}

/// Where an object lay in a process, in the order of time.
#[derive(Debug, Default)]
struct Places {
    rows: Vec<TextRow>,
    /// Whether they are not in this file yet.
    is_missing: bool,
}

/// A caller, and whether it is in this file.
#[derive(Debug)]
struct Frame {
    row: FrameRow,
    is_here: bool,
}

/// Who refers to code: a fault, or a caller that is told for the first time.
struct Asker {
    pid: u32,
    tid: u32,
    cpu: u32,
    time_ns: u64,
}

/// Of an object that moves in a process, so many places are remembered from file to file: a fault may be written after its
/// object has moved on.
const PLACES_MOST: usize = 4;

impl Told {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a row that is about to be written.
    pub fn see(&mut self, row: &Row) {
        match row {
            Row::Text(row) => {
                self.ended.remove(&row.pid);
                let of_process = self.texts.entry(row.pid).or_default();
                let places = of_process.entry(row.object.name.clone()).or_default();
                if std::mem::take(&mut places.is_missing) {
                    // Those before it must not stand behind it. A fault of their time that still comes goes without.
                    places.rows.clear();
                }
                places.rows.push((**row).clone());
            }
            Row::Frame(frame) => {
                self.frames.push(Frame {
                    row: (**frame).clone(),
                    is_here: true,
                });
            }
            Row::Thread(row) => self.see_thread(row),
            _ => {}
        }
    }

    fn see_thread(&mut self, row: &ThreadRow) {
        if row.pid != row.tid {
            return;
        }
        match row.event {
            ThreadEvent::Exit => {
                self.ended.insert(row.pid);
            }
            // Another process with that id.
            ThreadEvent::Fork => {
                self.ended.remove(&row.pid);
                self.texts.remove(&row.pid);
            }
            _ => {}
        }
    }

    /// Adds to `rows` what must stand before a row in this file and does not yet. Whether it is known where its code lies.
    pub fn tell_for(&mut self, row: &Row, rows: &mut Vec<Row>) -> bool {
        let (code, stack, asker) = match row {
            Row::Fault(row) | Row::Pending(row) => {
                let Fault {
                    pid,
                    tid,
                    cpu,
                    time_ns,
                    ..
                } = row.fault;
                let asker = Asker {
                    pid,
                    tid,
                    cpu,
                    time_ns,
                };
                (&row.code, row.stack.unwrap_or(OUTERMOST), asker)
            }
            Row::Frame(row) => {
                let FrameRow {
                    pid,
                    tid,
                    cpu,
                    time_ns,
                    ..
                } = **row;
                let asker = Asker {
                    pid,
                    tid,
                    cpu,
                    time_ns,
                };
                (&row.code, row.caller, asker)
            }
            _ => return true,
        };
        if stack >= FIRST_FRAME && self.stacks_here.insert((asker.pid, stack)) {
            self.tell_stack(stack, &asker, rows);
        }
        let Some(code) = code else {
            return true;
        };
        self.tell_text(&asker, &code.object.name, rows).is_some()
    }

    /// Tells callers, the outermost first, as of the process of who asks.
    fn tell_stack(&mut self, stack: u32, asker: &Asker, rows: &mut Vec<Row>) {
        let index = |id: u32| (id - FIRST_FRAME) as usize;
        let mut chain = Vec::new();
        let mut next = stack;
        while next >= FIRST_FRAME {
            let Some(frame) = self.frames.get(index(next)) else {
                break;
            };
            chain.push(next);
            next = frame.row.caller;
        }
        for id in chain.into_iter().rev() {
            let mut frame = self.frames[index(id)].row.clone();
            if let Some(code) = &frame.code {
                let base = self.tell_text(asker, &code.object.name, rows);
                // The process that told it first may be gone.
                (frame.pid, frame.tid, frame.cpu) = (asker.pid, asker.tid, asker.cpu);
                frame.time_ns = asker.time_ns;
                match base {
                    Some(base) => frame.address = base.wrapping_add(code.offset),
                    None => frame.code = None,
                }
            }
            if !std::mem::replace(&mut self.frames[index(id)].is_here, true) {
                rows.push(Row::Frame(Box::new(frame)));
            }
        }
    }

    /// Tells where an object lay in a process at a time. Its [`TextRow::base`], if that is known.
    fn tell_text(&mut self, asker: &Asker, object: &Name, rows: &mut Vec<Row>) -> Option<u64> {
        let places = self.texts.get_mut(&asker.pid)?.get_mut(object)?;
        let at = |row: &&TextRow| row.time_ns <= asker.time_ns;
        let base = places.rows.iter().rev().find(at)?.base();
        if std::mem::take(&mut places.is_missing) {
            // Readers want them in the order of time.
            let texts = places.rows.iter().cloned();
            rows.extend(texts.map(|text| Row::Text(Box::new(text))));
        }
        Some(base)
    }

    /// Another file begins, where nothing is told yet.
    pub fn begin_file(&mut self) {
        for pid in self.ended.drain() {
            self.texts.remove(&pid);
        }
        for places in self.texts.values_mut().flat_map(HashMap::values_mut) {
            let old = places.rows.len().saturating_sub(PLACES_MOST);
            places.rows.drain(..old);
            places.is_missing = true;
        }
        for frame in &mut self.frames {
            frame.is_here = false;
        }
        self.stacks_here.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use fault_tracer_trace::{BuildId, Code, Object, ResolvedFault};

    fn object(name: &str) -> Arc<Object> {
        Arc::new(Object {
            name: name.into(),
            build_id: BuildId::Unread,
            bias: None,
            file: None,
        })
    }

    fn text(pid: u32, name: &str) -> Row {
        Row::Text(Box::new(TextRow {
            time_ns: 1,
            cpu: 0,
            pid,
            tid: pid,
            address: 0x1000,
            file_offset: 0,
            object: object(name),
        }))
    }

    fn frame(id: u32, caller: u32, name: &str) -> Row {
        Row::Frame(Box::new(FrameRow {
            time_ns: 1,
            cpu: 0,
            pid: 7,
            tid: 7,
            id,
            caller,
            address: 5,
            code: Some(Code {
                object: object(name),
                offset: 5,
            }),
        }))
    }

    fn fault(pid: u32, name: &str, stack: u32) -> ResolvedFault {
        ResolvedFault {
            fault: Fault {
                pid,
                tid: pid,
                time_ns: 9,
                ..Fault::default()
            },
            code: Some(Code {
                object: object(name),
                offset: 9,
            }),
            stack: Some(stack),
            ..ResolvedFault::default()
        }
    }

    fn told_for(told: &mut Told, fault: &ResolvedFault) -> (bool, Vec<Row>) {
        let mut rows = Vec::new();
        let row = Row::Fault(Box::new(fault.clone()));
        (told.tell_for(&row, &mut rows), rows)
    }

    fn exit(pid: u32) -> Row {
        Row::Thread(Box::new(ThreadRow {
            event: ThreadEvent::Exit,
            time_ns: 2,
            cpu: 0,
            pid,
            tid: pid,
            process: None,
            thread: None,
            program: None,
            parent: None,
            old_tid: None,
            min_flt: 0,
            maj_flt: 0,
        }))
    }

    #[test]
    fn code_and_callers_are_told_again_where_faults_refer_to_them() {
        let mut told = Told::new();
        let rows = [
            text(7, "/bin/a"),
            text(7, "/lib/c"),
            text(8, "/bin/a"),
            text(8, "/lib/c"),
            frame(2, OUTERMOST, "/lib/c"),
            frame(3, 2, "/bin/a"),
            frame(4, 2, "/bin/a"),
        ];
        for row in &rows {
            told.see(row);
        }
        let of_eight = fault(8, "/bin/a", 3);
        assert_eq!(told_for(&mut told, &of_eight), (true, vec![]));
        told.begin_file();
        let (is_known, again) = told_for(&mut told, &of_eight);
        assert!(is_known);
        let [_, _, a, c, ..] = rows;
        let [text_c, Row::Frame(outer), text_a, Row::Frame(inner)] = &again[..] else {
            panic!("{again:?}");
        };
        assert_eq!([text_c, text_a], [&c, &a]);
        // The process that told them first may be gone.
        let said = |frame: &FrameRow| (frame.id, frame.caller, frame.pid, frame.address);
        assert_eq!(said(outer), (2, OUTERMOST, 8, 0x1005));
        assert_eq!(said(inner), (3, 2, 8, 0x1005));
        assert_eq!(told_for(&mut told, &of_eight), (true, vec![]));
        // Another process has the same callers, and its code has places of its own.
        let (_, of_seven) = told_for(&mut told, &fault(7, "/bin/a", 3));
        assert_eq!(of_seven.len(), 2);
    }

    #[test]
    fn what_a_new_caller_refers_to_is_told_again() {
        let mut told = Told::new();
        let rows = [text(7, "/bin/a"), frame(2, OUTERMOST, "/bin/a")];
        for row in &rows {
            told.see(row);
        }
        told.begin_file();
        let mut again = Vec::new();
        assert!(told.tell_for(&frame(3, 2, "/bin/a"), &mut again));
        assert_eq!(again[0], rows[0]);
        assert!(matches!(&again[1..], [Row::Frame(frame)] if frame.id == 2));
    }

    #[test]
    fn a_fault_from_before_its_object_moved_has_the_former_place() {
        let mut told = Told::new();
        told.see(&text(7, "/bin/a"));
        let Row::Text(mut moved) = text(7, "/bin/a") else {
            panic!("it is a text");
        };
        (moved.time_ns, moved.address) = (20, 0x5000);
        told.see(&Row::Text(moved.clone()));
        told.begin_file();
        let before = fault(7, "/bin/a", OUTERMOST);
        let mut after = before.clone();
        after.fault.time_ns = 21;
        // Both, in their order.
        let places = vec![text(7, "/bin/a"), Row::Text(moved)];
        assert_eq!(told_for(&mut told, &after), (true, places));
        assert_eq!(told_for(&mut told, &before), (true, vec![]));
    }

    #[test]
    fn processes_that_have_ended_are_forgotten() {
        let mut told = Told::new();
        for pid in [7, 8] {
            told.see(&text(pid, "/bin/a"));
        }
        told.see(&exit(7));
        let [of_seven, of_eight] = [7, 8].map(|pid| fault(pid, "/bin/a", OUTERMOST));
        assert_eq!(told_for(&mut told, &of_seven), (true, vec![]));
        told.begin_file();
        assert_eq!(told_for(&mut told, &of_seven), (false, vec![]));
        let again = (true, vec![text(8, "/bin/a")]);
        assert_eq!(told_for(&mut told, &of_eight), again);
        assert_eq!(told.texts.len(), 1);
    }
}
