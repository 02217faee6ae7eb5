// SPDX-License-Identifier: GPL-2.0-only

//! The columns of a batch, filled row by row.
//!
//! This is what the recorder does most, so that a value costs it a few instructions: names are known again by
//! where they lie in memory, and what a row does not have costs nothing until the batch is complete.

use std::sync::{Arc, LazyLock};

use arrow_array::{
    builder::StringBuilder,
    types::{ArrowDictionaryKeyType, Int64Type, UInt16Type, UInt32Type, UInt64Type},
    ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, ScalarBuffer};
use rustc_hash::FxHashMap;

use super::schema::{FewKey, ManyKey, BATCH_ROWS, CARRIED_MOST, UNREAD};
use crate::{
    csv::push_flags, Access, BuildId, Fate, Kind, Name, Object, ResolvedFault, Row, ThreadRow,
    EVENTS,
};

/// Build ids of more objects than this are not remembered, but reported again.
const BUILD_IDS_MOST: usize = 1 << 14;

/// Rows, column by column in the order of [`super::schema::fields`].
#[derive(Default)]
pub struct Batch {
    rows: usize,
    event: Values<FewKey>,
    time_ns: Values<Int64Type>,
    cpu: Values<UInt16Type>,
    pid: Values<UInt32Type>,
    tid: Values<UInt32Type>,
    process: Names<Values<ManyKey>>,
    thread: Names<Values<ManyKey>>,
    kind: Values<FewKey>,
    fate: Values<FewKey>,
    access: Values<FewKey>,
    address: Values<UInt64Type>,
    mapping: Names<Values<ManyKey>>,
    permissions: Names<Values<ManyKey>>,
    file_offset: Values<UInt64Type>,
    flags: Flags,
    program: Names<Values<ManyKey>>,
    parent: Sparse<UInt32Type>,
    old_tid: Sparse<UInt32Type>,
    min_flt: Sparse<UInt64Type>,
    maj_flt: Sparse<UInt64Type>,
    end_ns: Sparse<Int64Type>,
    count: Sparse<UInt64Type>,
    object: Names<Values<ManyKey>>,
    ip_offset: Values<UInt64Type>,
    build_id: BuildIds,
    duration_ns: Sparse<UInt64Type>,
    attempts: Values<UInt32Type>,
    returns: Sparse<UInt32Type>,
    device: Sparse<UInt64Type>,
    inode: Sparse<UInt64Type>,
    changed_ns: Sparse<Int64Type>,
    page_bytes: Sparse<UInt64Type>,
    stack: Sparse<UInt32Type>,
    caller: Sparse<UInt32Type>,
    page_node: Sparse<UInt32Type>,
    around: Sparse<UInt32Type>,
    fixed: Fixed,
}

impl Batch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether it holds as many rows as a batch may.
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If it [is full](Batch::is_full).
    pub fn push(&mut self, row: &Row) {
        assert!(!self.is_full(), "a full batch is to be written first");
        let n = self.rows;
        self.rows += 1;
        // CAST: there are fewer than 128.
        self.event.set(n, row.event_index() as i8);
        self.time_ns.set(n, signed(row.time_ns()));
        match row {
            Row::Fault(fault) => {
                self.push_fault(n, fault);
                self.fate.set(n, fault.fate as i8);
            }
            Row::Pending(fault) => {
                self.push_fault(n, fault);
                self.fate.set_null(n);
            }
            other => self.push_other(n, other),
        }
    }

    #[inline]
    fn push_fault(&mut self, n: usize, resolved: &ResolvedFault) {
        let fault = &resolved.fault;
        self.cpu.set(n, number_of(fault.cpu));
        self.pid.set(n, fault.pid);
        self.tid.set(n, fault.tid);
        self.process.set_option(n, resolved.process.as_ref());
        self.thread.set_option(n, resolved.thread.as_ref());
        self.program.set_option(n, resolved.program.as_ref());
        self.kind.set(n, resolved.kind as i8);
        self.access.set(n, fault.access as i8);
        self.address.set(n, fault.address);
        let code = resolved.code.as_ref();
        self.object
            .set_option(n, code.map(|code| &code.object.name));
        self.ip_offset
            .set(n, code.map_or(fault.ip, |code| code.offset));
        let place = resolved.place.as_ref();
        self.mapping.set_option(n, place.map(|place| &place.name));
        self.permissions
            .set_option(n, place.map(|place| &place.permissions));
        self.file_offset
            .set_option(n, place.and_then(|place| place.file_offset));
        self.flags.set(n, fault.flags);
        if let Some(duration_ns) = resolved.duration_ns {
            self.duration_ns.set(n, duration_ns);
        }
        self.attempts.set(n, resolved.attempts);
        if resolved.returns != 0 {
            self.returns.set(n, resolved.returns);
        }
        if let Some(page_bytes) = resolved.page_bytes {
            self.page_bytes.set(n, page_bytes);
        }
        if let Some(page_node) = resolved.page_node {
            self.page_node.set(n, page_node);
        }
        if let Some(around) = resolved.around {
            self.around.set(n, around);
        }
        if let Some(stack) = resolved.stack {
            self.stack.set(n, stack);
        }
    }

    /// Adds a row of which there are few.
    #[inline(never)]
    fn push_other(&mut self, n: usize, row: &Row) {
        let (cpu, pid, tid) = match row {
            Row::Fault(fault) | Row::Pending(fault) => {
                let fault = &fault.fault;
                (Some(fault.cpu), Some(fault.pid), Some(fault.tid))
            }
            Row::Thread(thread) => (Some(thread.cpu), Some(thread.pid), Some(thread.tid)),
            Row::Text(text) => (Some(text.cpu), Some(text.pid), Some(text.tid)),
            Row::Frame(frame) => (Some(frame.cpu), Some(frame.pid), Some(frame.tid)),
            Row::Gap(gap) => (Some(gap.cpu), Some(gap.pid), Some(gap.tid)),
            Row::Lost(lost) => (Some(lost.cpu), None, None),
            Row::Counter(counter) => (counter.cpu, None, None),
        };
        self.cpu.set_option(n, cpu.map(number_of));
        self.pid.set_option(n, pid);
        self.tid.set_option(n, tid);
        let thread = match row {
            Row::Thread(thread) => Some(&**thread),
            _ => None,
        };
        self.process
            .set_option(n, thread.and_then(|thread| thread.process.as_ref()));
        self.thread
            .set_option(n, thread.and_then(|thread| thread.thread.as_ref()));
        self.program
            .set_option(n, thread.and_then(|thread| thread.program.as_ref()));
        self.attempts.set_null(n);
        self.kind.set_null(n);
        self.fate.set_null(n);
        self.access.set_null(n);
        let text = match row {
            Row::Text(text) => Some(&**text),
            _ => None,
        };
        self.address.set_option(n, text.map(|text| text.address));
        self.mapping.set_null(n);
        self.permissions.set_null(n);
        self.file_offset
            .set_option(n, text.map(|text| text.file_offset));
        self.flags.set_null(n);
        let (object, ip_offset) = row.object_and_offset();
        self.object.set_option(n, object.map(|object| &object.name));
        self.ip_offset.set_option(n, ip_offset);
        match row {
            Row::Fault(_) | Row::Pending(_) => {}
            Row::Thread(thread) => self.push_thread(n, thread),
            Row::Text(text) => self.push_object(n, &text.object),
            Row::Frame(frame) => {
                self.stack.set(n, frame.id);
                self.caller.set(n, frame.caller);
            }
            Row::Gap(gap) => {
                self.end_ns.set(n, signed(gap.end_ns));
                self.count.set(n, gap.count);
            }
            Row::Lost(lost) => {
                self.end_ns.set(n, signed(lost.end_ns));
                self.count.set(n, lost.count);
            }
            Row::Counter(counter) => self.count.set(n, counter.count),
        }
    }

    /// What threads alone have.
    fn push_thread(&mut self, n: usize, thread: &ThreadRow) {
        if let Some(parent) = thread.parent {
            self.parent.set(n, parent);
        }
        if let Some(old_tid) = thread.old_tid {
            self.old_tid.set(n, old_tid);
        }
        self.min_flt.set(n, thread.min_flt);
        self.maj_flt.set(n, thread.maj_flt);
    }

    /// What code alone has.
    fn push_object(&mut self, n: usize, object: &Object) {
        self.build_id.set(n, object);
        if let Some(file) = object.file {
            self.device.set(n, file.device);
            self.inode.set(n, file.inode);
            if let Some(changed_ns) = file.changed_ns {
                self.changed_ns.set(n, changed_ns);
            }
        }
    }

    /// The columns of all rows, of which none are left here.
    pub fn take(&mut self) -> Vec<ArrayRef> {
        let rows = std::mem::take(&mut self.rows);
        let fixed = &self.fixed;
        // SAFETY: The keys are indexes in the arrays that the values are made of.
        let few = |keys: &mut Values<FewKey>, values| unsafe { keys.keys(rows, values) };
        vec![
            few(&mut self.event, &fixed.events),
            self.time_ns.numbers(rows),
            self.cpu.numbers(rows),
            self.pid.numbers(rows),
            self.tid.numbers(rows),
            self.process.take(rows),
            self.thread.take(rows),
            few(&mut self.kind, &fixed.kinds),
            few(&mut self.fate, &fixed.fates),
            few(&mut self.access, &fixed.accesses),
            self.address.numbers(rows),
            self.mapping.take(rows),
            self.permissions.take(rows),
            self.file_offset.numbers(rows),
            self.flags.names.take(rows),
            self.program.take(rows),
            self.parent.numbers(rows),
            self.old_tid.numbers(rows),
            self.min_flt.numbers(rows),
            self.maj_flt.numbers(rows),
            self.end_ns.numbers(rows),
            self.count.numbers(rows),
            self.object.take(rows),
            self.ip_offset.numbers(rows),
            self.build_id.take(rows),
            self.duration_ns.numbers(rows),
            self.attempts.numbers(rows),
            self.returns.numbers(rows),
            self.device.numbers(rows),
            self.inode.numbers(rows),
            self.changed_ns.numbers(rows),
            self.page_bytes.numbers(rows),
            self.stack.numbers(rows),
            self.caller.numbers(rows),
            self.page_node.numbers(rows),
            self.around.numbers(rows),
        ]
    }
}

/// Times fit in 63 bits for 292 years after the boot.
fn signed(time_ns: u64) -> i64 {
    i64::try_from(time_ns).unwrap_or(i64::MAX)
}

/// The kernel has at most 8192 CPUs.
fn number_of(cpu: u32) -> u16 {
    u16::try_from(cpu).unwrap_or(u16::MAX)
}

/// The values of a column, in the order of the rows.
pub trait Column: Default {
    type Type: ArrowPrimitiveType;

    /// The value of the next row.
    fn set(&mut self, row: usize, value: <Self::Type as ArrowPrimitiveType>::Native);

    /// Changes each value of the first rows (and what stands for the nulls among them).
    fn change(
        &mut self,
        rows: usize,
        change: impl FnMut(&mut <Self::Type as ArrowPrimitiveType>::Native),
    );

    /// The column of so many rows, of which none are left here.
    fn take(&mut self, rows: usize) -> PrimitiveArray<Self::Type>;
}

/// How a column becomes one of Arrow's.
trait Columns: Column {
    /// As numbers.
    fn numbers(&mut self, rows: usize) -> ArrayRef {
        Arc::new(self.take(rows))
    }

    /// As what they are the keys of.
    ///
    /// # Safety
    ///
    /// All keys that were set are at least 0 and less than the length of `values`.
    unsafe fn keys(&mut self, rows: usize, values: &ArrayRef) -> ArrayRef
    where
        Self::Type: ArrowDictionaryKeyType,
    {
        // SAFETY: By the contract. Nobody looks at the keys of nulls.
        Arc::new(unsafe { DictionaryArray::new_unchecked(self.take(rows), Arc::clone(values)) })
    }
}

impl<C: Column> Columns for C {}

/// A column that most rows have a value of, and the others a null: one of the two is set for each row.
pub struct Values<T: ArrowPrimitiveType> {
    /// As long as a batch can be.
    values: Vec<T::Native>,
    /// The rows without a value.
    nulls: Vec<usize>,
    /// The values of the batch before, whose memory the next can have when nobody looks at them any more:
    /// new memory would cost the kernel a fault for each page of it.
    lent: Option<Buffer>,
}

impl<T: ArrowPrimitiveType> Default for Values<T> {
    fn default() -> Self {
        Self {
            values: vec![T::Native::default(); BATCH_ROWS],
            nulls: Vec::new(),
            lent: None,
        }
    }
}

impl<T: ArrowPrimitiveType> Values<T> {
    #[inline]
    fn set_option(&mut self, row: usize, value: Option<T::Native>) {
        match value {
            Some(value) => self.set(row, value),
            None => self.set_null(row),
        }
    }

    fn set_null(&mut self, row: usize) {
        self.values[row] = T::Native::default();
        self.nulls.push(row);
    }
}

impl<T: ArrowPrimitiveType> Column for Values<T> {
    type Type = T;

    #[inline]
    fn set(&mut self, row: usize, value: T::Native) {
        self.values[row] = value;
    }

    fn change(&mut self, rows: usize, change: impl FnMut(&mut T::Native)) {
        self.values[..rows].iter_mut().for_each(change);
    }

    fn take(&mut self, rows: usize) -> PrimitiveArray<T> {
        let nulls = without(self.nulls.drain(..), rows);
        let free = self.lent.take().and_then(|lent| lent.into_vec().ok());
        let free = free.unwrap_or_else(|| vec![T::Native::default(); BATCH_ROWS]);
        let values = Buffer::from_vec(std::mem::replace(&mut self.values, free));
        self.lent = Some(values.clone());
        PrimitiveArray::new(ScalarBuffer::new(values, 0, rows), nulls)
    }
}

/// What stands for the values of a column that has none: zeros for as many rows as a batch can have.
static ZEROS: LazyLock<Buffer> = LazyLock::new(|| vec![0_u64; BATCH_ROWS].into());

/// Which of so many rows have a value: all but those, in their order; `None` if all have.
fn without(nulls: impl ExactSizeIterator<Item = usize>, rows: usize) -> Option<NullBuffer> {
    (nulls.len() != 0).then(|| {
        let mut valid = BooleanBufferBuilder::new(rows);
        valid.append_n(rows, true);
        for null in nulls {
            valid.set_bit(null, false);
        }
        NullBuffer::new(valid.finish())
    })
}

/// A column that few rows have a value of.
struct Sparse<T: ArrowPrimitiveType>(Vec<(usize, T::Native)>);

impl<T: ArrowPrimitiveType> Default for Sparse<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: ArrowPrimitiveType> Column for Sparse<T> {
    type Type = T;

    fn set(&mut self, row: usize, value: T::Native) {
        self.0.push((row, value));
    }

    fn change(&mut self, _rows: usize, mut change: impl FnMut(&mut T::Native)) {
        for (_, value) in &mut self.0 {
            change(value);
        }
    }

    fn take(&mut self, rows: usize) -> PrimitiveArray<T> {
        with_only(self.0.drain(..), rows)
    }
}

/// A column of so many rows, of which these alone have values.
fn with_only<T: ArrowPrimitiveType>(
    set: impl ExactSizeIterator<Item = (usize, T::Native)>,
    rows: usize,
) -> PrimitiveArray<T> {
    if set.len() == 0 {
        let values = ScalarBuffer::new(ZEROS.clone(), 0, rows);
        return PrimitiveArray::new(values, Some(NullBuffer::new_null(rows)));
    }
    let mut values = vec![T::Native::default(); rows];
    let mut valid = BooleanBufferBuilder::new(rows);
    valid.append_n(rows, false);
    for (row, value) in set {
        values[row] = value;
        valid.set_bit(row, true);
    }
    PrimitiveArray::new(values.into(), Some(NullBuffer::new(valid.finish())))
}

/// The names of the symbols of rows.
pub type SymbolNames = Names<Values<ManyKey>>;

/// The dictionaries whose values are always the same.
struct Fixed {
    events: ArrayRef,
    kinds: ArrayRef,
    fates: ArrayRef,
    accesses: ArrayRef,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            events: strings(EVENTS),
            kinds: strings(Kind::ALL.map(Kind::name)),
            fates: strings(Fate::ALL.map(Fate::name)),
            accesses: strings(Access::ALL.map(Access::name)),
        }
    }
}

fn strings(names: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(names))
}

/// A column of names, and its dictionary. That is kept from batch to batch: one that stays the same is not
/// written again.
#[derive(Default)]
pub struct Names<C> {
    keys: C,
    /// By key.
    names: Vec<Name>,
    by_text: FxHashMap<Name, i16>,
    /// By address: of names that lie there as long as they are in this map, since it holds them.
    by_address: FxHashMap<usize, (Name, i16)>,
    /// The last of them that was asked for; 0 is no address.
    last: (usize, i16),
    /// As an array, if it is of these names.
    array: Option<ArrayRef>,
    /// Names from before the batch are still among them.
    carried: bool,
}

impl Names<Values<ManyKey>> {
    /// The name of the next row, if it has one.
    #[inline]
    pub fn set_option(&mut self, row: usize, name: Option<&Name>) {
        match name {
            Some(name) => self.set(row, name),
            None => self.set_null(row),
        }
    }

    fn set_null(&mut self, row: usize) {
        self.keys.set_null(row);
    }
}

impl<C: Column<Type = ManyKey>> Names<C> {
    #[inline]
    fn set(&mut self, row: usize, name: &Name) {
        let address = Arc::as_ptr(name).cast::<u8>().addr();
        if self.last.0 != address {
            let known = self.by_address.get(&address).map(|known| known.1);
            let key = known.unwrap_or_else(|| self.key_of_text(row, name));
            self.last = (address, key);
        }
        self.keys.set(row, self.last.1);
    }

    /// The key of a name at a new address.
    #[inline(never)]
    fn key_of_text(&mut self, row: usize, name: &Name) -> i16 {
        let key = match self.by_text.get(name) {
            Some(&key) => key,
            None => {
                if self.carried && self.names.len() > CARRIED_MOST {
                    self.forget_unused(row);
                }
                self.add(name)
            }
        };
        let address = Arc::as_ptr(name).cast::<u8>().addr();
        self.by_address.insert(address, (Arc::clone(name), key));
        key
    }

    fn add(&mut self, name: &Name) -> i16 {
        // CAST: at most `CARRIED_MOST` and `BATCH_ROWS` different names.
        let key = self.names.len() as i16;
        self.by_text.insert(Arc::clone(name), key);
        self.names.push(Arc::clone(name));
        self.array = None;
        key
    }

    /// Forgets the names that this batch does not use, and gives the others new keys.
    fn forget_unused(&mut self, rows: usize) {
        let mut keys = std::mem::take(&mut self.keys);
        let old = std::mem::take(&mut self.names);
        let mut new = vec![None; old.len()];
        self.by_text.clear();
        self.by_address.clear();
        self.last = (0, 0);
        self.carried = false;
        // A null has the key 0, which may keep a name that is not used.
        keys.change(rows, |key| {
            // CAST: keys are not negative.
            let index = *key as usize;
            *key = *new[index].get_or_insert_with(|| self.add(&old[index]));
        });
        self.keys = keys;
    }

    /// The column of so many rows, of which none are left here.
    pub fn take(&mut self, rows: usize) -> ArrayRef {
        let names = &self.names;
        let array = self.array.get_or_insert_with(|| strings(names));
        // INVARIANT: Keys are indexes in `names`: `add` gives them out, `forget_unused` changes all, and the
        // array is made anew after both.
        // SAFETY: By the invariant.
        let column = unsafe { self.keys.keys(rows, array) };
        self.carried = true;
        // Of names at many addresses, most may be gone; the others are found by their text again.
        if self.by_address.len() > 2 * self.names.len().max(CARRIED_MOST) {
            self.by_address.clear();
            self.last = (0, 0);
        }
        column
    }
}

/// The column of the build ids: those that were not written before of their objects, or were others. There is no
/// dictionary that would be written anew with each that is new. An empty text stands for none, [`UNREAD`] for one
/// that could not be read.
#[derive(Default)]
struct BuildIds {
    rows: Vec<(usize, BuildId)>,
    /// The last that was written, by the name of the object.
    last: FxHashMap<Name, BuildId>,
}

impl BuildIds {
    fn set(&mut self, row: usize, object: &Object) {
        let Object { name, build_id, .. } = object;
        if self.last.get(name) == Some(build_id) {
            return;
        }
        if self.last.len() >= BUILD_IDS_MOST {
            self.last.clear();
        }
        self.last.insert(Arc::clone(name), build_id.clone());
        self.rows.push((row, build_id.clone()));
    }

    fn take(&mut self, rows: usize) -> ArrayRef {
        let mut column = StringBuilder::new();
        let mut next = 0;
        for (row, build_id) in self.rows.drain(..) {
            column.append_nulls(row - next);
            column.append_value(match build_id {
                BuildId::Of(ref digits) => &**digits,
                BuildId::Absent => "",
                BuildId::Unread => UNREAD,
            });
            next = row + 1;
        }
        column.append_nulls(rows - next);
        Arc::new(column.finish())
    }
}

/// The column of the flags: their names joined. There are few different ones.
#[derive(Default)]
struct Flags {
    names: Names<Values<ManyKey>>,
    known: FxHashMap<u16, Name>,
    /// The last that were asked for.
    last: Option<(u16, Name)>,
}

impl Flags {
    #[inline]
    fn set(&mut self, row: usize, flags: u16) {
        match &self.last {
            Some((last, name)) if *last == flags => self.names.set(row, name),
            _ => self.set_other(row, flags),
        }
    }

    #[inline(never)]
    fn set_other(&mut self, row: usize, flags: u16) {
        let name = self.known.entry(flags).or_insert_with(|| {
            let mut text = Vec::new();
            push_flags(&mut text, flags);
            String::from_utf8_lossy(&text).into()
        });
        self.names.set(row, name);
        self.last = Some((flags, Arc::clone(name)));
    }

    fn set_null(&mut self, row: usize) {
        self.names.set_null(row);
    }
}
