// SPDX-License-Identifier: GPL-2.0-only

//! How one frame of a stack is left: where the caller's registers are. x86-64.
//!
//! DWARF 5, section 6.4, and its mapping of registers in the System V ABI for AMD64. What is not known stays unknown: a rule
//! that needs such a register cannot be followed.

use gimli::{
    BaseAddresses, CfaRule, EndianSlice, Evaluation, EvaluationResult, Expression,
    FrameDescriptionEntry, LittleEndian, Location, Piece, Reader as _, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, Value, X86_64,
};

/// Reads sections.
pub(crate) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Registers with numbers: `rax` to `r15`, and the instruction pointer.
const REGISTERS: usize = 17;
/// An expression that takes more steps than this does not end.
const STEPS_MOST: u32 = 1000;

/// Registers of a thread, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers([Option<u64>; REGISTERS]);

impl Registers {
    /// Instruction, stack and frame pointer are known, and no others.
    pub fn new(ip: u64, sp: u64, frame: u64) -> Self {
        let mut registers = Self::default();
        registers.set(X86_64::RA, Some(ip));
        registers.set(X86_64::RSP, Some(sp));
        registers.set(X86_64::RBP, Some(frame));
        registers
    }

    /// The stack pointer.
    pub fn sp(&self) -> Option<u64> {
        self.get(X86_64::RSP)
    }

    /// The frame pointer.
    pub fn frame(&self) -> Option<u64> {
        self.get(X86_64::RBP)
    }

    fn get(&self, register: Register) -> Option<u64> {
        *self.0.get(usize::from(register.0))?
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(place) = self.0.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It is the value of a register, and so much.
    Register(Register, i64),
    /// It lies so far from the canonical frame address.
    AtFrame(i64),
    /// It is the canonical frame address, and so much.
    Frame(i64),
    /// It lies where an expression says.
    At(Vec<u8>),
    /// It is what an expression says.
    Is(Vec<u8>),
    /// It is not there any more.
    Lost,
}

/// How a frame is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRule {
    /// The canonical frame address: the stack pointer of the caller, as it was before the call.
    frame: Place,
    /// The registers that are elsewhere.
    registers: Vec<(Register, Place)>,
    /// Where it returns to; `None` if it is the outermost.
    returns_to: Option<Place>,
    /// The kernel made it, for a signal.
    is_signal: bool,
}

/// Where a frame returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Behind a call.
    Call(u64),
    /// To an instruction that a signal interrupted.
    Interrupted(u64),
    /// There is none.
    None,
}

impl FrameRule {
    /// That of the code at an address, in an entry of a table.
    pub(crate) fn of<'a, S>(
        table: &S,
        bases: &BaseAddresses,
        entry: &FrameDescriptionEntry<Slice<'a>>,
        address: u64,
    ) -> Option<Self>
    where
        S: UnwindSection<Slice<'a>>,
    {
        let mut context = UnwindContext::new();
        let row = entry
            .unwind_info_for_address(table, bases, &mut context, address)
            .ok()?;
        let expression = |expression: &UnwindExpression<usize>| {
            let expression = expression.get(table).ok()?;
            Some(expression.0.to_slice().ok()?.into_owned())
        };
        let place = |rule: &RegisterRule<usize>| {
            Some(match rule {
                RegisterRule::Undefined => Place::Lost,
                RegisterRule::Offset(offset) => Place::AtFrame(*offset),
                RegisterRule::ValOffset(offset) => Place::Frame(*offset),
                RegisterRule::Register(register) => Place::Register(*register, 0),
                RegisterRule::Expression(of) => Place::At(expression(of)?),
                RegisterRule::ValExpression(of) => Place::Is(expression(of)?),
                RegisterRule::Constant(_) | RegisterRule::Architectural => return None,
                // Named, and not moved.
                _ => return None,
            })
        };
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Place::Register(*register, *offset),
            CfaRule::Expression(of) => Place::Is(expression(of)?),
        };
        let mut registers = Vec::new();
        let mut returns_to = None;
        for &(register, ref rule) in row.registers() {
            if *rule == RegisterRule::SameValue {
                continue;
            }
            let place = place(rule)?;
            if register == X86_64::RA {
                returns_to = Some(place);
            } else {
                registers.push((register, place));
            }
        }
        Some(Self {
            frame,
            registers,
            // gimli leaves out what the entry says is undefined. All entries say at first where a function returns to.
            returns_to: returns_to.filter(|place| *place != Place::Lost),
            is_signal: entry.is_signal_trampoline(),
        })
    }

    /// Whether the kernel made the frame, for a signal.
    pub fn is_signal(&self) -> bool {
        self.is_signal
    }

    /// Leaves the frame: the registers become those of the caller. `None` if what it needs is not known: then they are as
    /// they were.
    pub fn leave(
        &self,
        registers: &mut Registers,
        read: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<Caller> {
        let Some(returns_to) = &self.returns_to else {
            return Some(Caller::None);
        };
        let before = *registers;
        let frame = value(&self.frame, None, &before, read)?;
        let mut after = before;
        if !self.is_signal {
            // A call need not keep the others.
            for lost in [
                X86_64::RAX,
                X86_64::RDX,
                X86_64::RCX,
                X86_64::RSI,
                X86_64::RDI,
                X86_64::R8,
                X86_64::R9,
                X86_64::R10,
                X86_64::R11,
            ] {
                after.set(lost, None);
            }
        }
        after.set(X86_64::RSP, Some(frame));
        for (register, place) in &self.registers {
            after.set(*register, value(place, Some(frame), &before, read));
        }
        let address = value(returns_to, Some(frame), &before, read)?;
        // Each frame lies above the one that it has called; a signal may have a stack of its own.
        if !self.is_signal && after.sp()? <= before.sp()? {
            return None;
        }
        after.set(X86_64::RA, Some(address));
        *registers = after;
        Some(match address {
            0 => Caller::None,
            address if self.is_signal => Caller::Interrupted(address),
            address => Caller::Call(address),
        })
    }
}

/// What is at a place, as far as it is known.
fn value(
    place: &Place,
    frame: Option<u64>,
    registers: &Registers,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Option<u64> {
    match place {
        Place::Register(register, offset) => {
            Some(registers.get(*register)?.wrapping_add_signed(*offset))
        }
        Place::AtFrame(offset) => read(frame?.wrapping_add_signed(*offset)),
        Place::Frame(offset) => Some(frame?.wrapping_add_signed(*offset)),
        Place::At(expression) => read(evaluate(expression, frame, registers, read)?),
        Place::Is(expression) => evaluate(expression, frame, registers, read),
        Place::Lost => None,
    }
}

/// What an expression says.
fn evaluate(
    expression: &[u8],
    frame: Option<u64>,
    registers: &Registers,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Option<u64> {
    let encoding = gimli::Encoding {
        format: gimli::Format::Dwarf32,
        version: 5,
        address_size: crate::unwind::ADDRESS_BYTES,
    };
    let expression = Expression(EndianSlice::new(expression, LittleEndian));
    let mut evaluation: Evaluation<Slice<'_>> = expression.evaluation(encoding);
    evaluation.set_max_iterations(STEPS_MOST);
    if let Some(frame) = frame {
        evaluation.set_initial_value(frame);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory {
                address, size: 8, ..
            } => evaluation.resume_with_memory(Value::Generic(read(address)?)),
            EvaluationResult::RequiresRegister { register, .. } => {
                evaluation.resume_with_register(Value::Generic(registers.get(register)?))
            }
            _ => return None,
        }
        .ok()?;
    }
    match evaluation.as_result() {
        [Piece {
            location: Location::Address { address },
            ..
        }] => Some(*address),
        _ => None,
    }
}
