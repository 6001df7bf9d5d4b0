// SPDX-License-Identifier: Apache-2.0
//! One instruction's effect on what the registers and the stack are known to hold.
//!
//! An instruction that is not known here makes everything that it writes unknown, so a gap costs facts and never invents one.

use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedRegister};

use super::{
    fact::{Call, Fact, Target},
    state::State,
    value::{Place, Value},
};

/// What must be known of the module to read its code.
pub(super) trait Image {
    /// The address in the module that the word at `address` holds once loaded.
    fn pointer(&self, address: u64) -> Option<u64>;
    /// What a call to this address reaches.
    fn target(&self, address: u64) -> Target;
    /// What a call through the pointer at this address reaches.
    fn target_of_pointer(&self, address: u64) -> Target;
}

/// Runs single instructions, reporting what they do.
pub(super) struct Machine<'a> {
    image: &'a dyn Image,
    registers: InstructionInfoFactory,
    facts: Vec<Fact>,
}

impl<'a> Machine<'a> {
    /// A machine for the code of one module.
    pub(super) fn new(image: &'a dyn Image) -> Self {
        Self { image, registers: InstructionInfoFactory::new(), facts: Vec::new() }
    }

    /// Takes what was seen since the last time.
    pub(super) fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// Runs one instruction; returns false if nothing comes after a call here because the callee never returns.
    pub(super) fn step(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => return self.call(instruction, state),
            FlowControl::Return => self.facts.push(Fact::Return(state.get(Register::RAX))),
            FlowControl::Next => self.compute(instruction, state),
            FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Interrupt
            | FlowControl::XbeginXabortXend
            | FlowControl::Exception => {}
        }
        true
    }

    /// A jump that leaves the function: a call in the last place.
    pub(super) fn leave(&mut self, instruction: &Instruction, state: &mut State) {
        let target = self.target(instruction, state);
        self.facts.push(Fact::Call(Call { at: instruction.ip(), target, arguments: state.arguments() }));
    }

    fn call(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        let target = self.target(instruction, state);
        let returns = !target.never_returns();
        self.facts.push(Fact::Call(Call { at: instruction.ip(), target, arguments: state.arguments() }));
        state.after_call(Value::Result(instruction.ip()));
        returns
    }

    fn target(&mut self, instruction: &Instruction, state: &State) -> Target {
        match instruction.op0_kind() {
            OpKind::NearBranch64 => self.image.target(instruction.near_branch_target()),
            OpKind::Memory => match address(instruction, state) {
                Value::Static(pointer) => self.image.target_of_pointer(pointer),
                address => address.at(8).map_or(Target::Unknown, |place| virtual_target(&place)),
            },
            OpKind::Register => match state.get(instruction.op0_register()) {
                Value::Static(address) => self.image.target(address),
                Value::Loaded(place) => virtual_target(&place),
                _ => Target::Unknown,
            },
            _ => Target::Unknown,
        }
    }

    fn compute(&mut self, instruction: &Instruction, state: &mut State) {
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Mov | M::Movzx | M::Movsx | M::Movsxd => self.copy(instruction, state),
            M::Lea => lea(instruction, state),
            M::Push => self.push(instruction, state),
            M::Pop => {
                let slot = self.read(&state.get(Register::RSP), 8, state);
                move_stack_pointer(state, 8);
                self.write_operand(instruction, slot, state);
            }
            M::Leave => {
                let frame = state.get(Register::RBP);
                state.set(Register::RBP, self.read(&frame, 8, state));
                state.set(Register::RSP, frame.plus(8));
            }
            M::Add | M::Sub => self.add(instruction, state),
            M::Xor if same_registers(instruction) => {
                state.set(instruction.op0_register(), Value::Constant(0));
            }
            M::Xadd => self.count(instruction, state),
            M::Cmp | M::Test => self.compare(instruction, state),
            M::Div | M::Idiv => self.divide(instruction, state),
            _ if !self.vector(instruction, state) => self.forget(instruction, state),
            _ => {}
        }
    }

    fn copy(&mut self, instruction: &Instruction, state: &mut State) {
        let value = self.operand(instruction, 1, state);
        self.write_operand(instruction, value, state);
    }

    fn push(&mut self, instruction: &Instruction, state: &mut State) {
        let value = self.operand(instruction, 0, state);
        move_stack_pointer(state, -8);
        let top = state.get(Register::RSP);
        self.write(&top, 8, value, state);
    }

    fn add(&mut self, instruction: &Instruction, state: &mut State) {
        let number = immediate(instruction, 1).map(u64::cast_signed);
        match (instruction.op0_kind(), number) {
            (OpKind::Register, _) if instruction.mnemonic() == Mnemonic::Sub && same_registers(instruction) => {
                state.set(instruction.op0_register(), Value::Constant(0));
            }
            (OpKind::Register, Some(number)) if instruction.op0_register().is_gpr64() => {
                let register = instruction.op0_register();
                let number = if instruction.mnemonic() == Mnemonic::Sub { number.wrapping_neg() } else { number };
                state.set(register, state.get(register).plus(number));
            }
            _ => self.forget(instruction, state),
        }
    }

    /// `lock xadd [place], register`: the register gets what was there.
    fn count(&mut self, instruction: &Instruction, state: &mut State) {
        let before = match instruction.op0_kind() {
            OpKind::Memory => address(instruction, state).at(width(instruction)),
            _ => None,
        };
        self.forget(instruction, state);
        if instruction.op1_kind() == OpKind::Register {
            let value = before.map_or(Value::Unknown, |place| Value::Counted(Rc::new(place)));
            state.set(instruction.op1_register(), value);
        }
    }

    fn compare(&mut self, instruction: &Instruction, state: &State) {
        let [left, right] = [0, 1].map(|operand| self.operand(instruction, operand, state));
        let with = match instruction.mnemonic() {
            Mnemonic::Test if same_registers(instruction) => Some(0),
            Mnemonic::Test => None,
            _ => immediate(instruction, 1),
        };
        for value in [left, right] {
            if let Value::Loaded(place) = value {
                let mask = u64::MAX >> (64 - 8 * u32::from(place.width).clamp(1, 8));
                let fact = Fact::Compare((*place).clone(), with.map(|number| number & mask));
                if self.facts.last() != Some(&fact) {
                    self.facts.push(fact);
                }
            }
        }
    }

    fn divide(&mut self, instruction: &Instruction, state: &mut State) {
        let divisor = self.operand(instruction, 0, state);
        self.facts.push(Fact::Divide(state.get(Register::RAX), divisor));
        state.set(Register::RAX, Value::Unknown);
        state.set(Register::RDX, Value::Unknown);
    }

    /// The moves by which compilers write two fields at once. Returns false for any other instruction.
    fn vector(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        use Mnemonic as M;
        let last = instruction.op_count().saturating_sub(1);
        match instruction.mnemonic() {
            M::Movq | M::Vmovq => {
                let low = match instruction.op_kind(1) {
                    OpKind::Register if instruction.op1_register().is_vector_register() => {
                        state.vector(instruction.op1_register())[0].clone()
                    }
                    _ => self.operand(instruction, 1, state),
                };
                match instruction.op0_kind() {
                    OpKind::Register if instruction.op0_register().is_vector_register() => {
                        state.set_vector(instruction.op0_register(), [low, Value::Constant(0)]);
                    }
                    _ => self.write_operand(instruction, low, state),
                }
            }
            M::Punpcklqdq | M::Vpunpcklqdq | M::Movlhps | M::Vmovlhps | M::Unpcklpd | M::Vunpcklpd
                if instruction.op_kind(last) == OpKind::Register =>
            {
                let [low, _] = state.vector(instruction.op_register(last - 1));
                let [high, _] = state.vector(instruction.op_register(last));
                // The two-operand form reads its destination as the first source.
                let low = if last == 1 { state.vector(instruction.op0_register())[0].clone() } else { low };
                state.set_vector(instruction.op0_register(), [low, high]);
            }
            M::Pinsrq | M::Vpinsrq if immediate(instruction, last) == Some(1) => {
                let first = if last == 3 { instruction.op_register(1) } else { instruction.op0_register() };
                let [low, _] = state.vector(first);
                let high = self.operand(instruction, last - 1, state);
                state.set_vector(instruction.op0_register(), [low, high]);
            }
            M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd if instruction.op_kind(last) == OpKind::Memory => {
                let first = if last == 2 { instruction.op_register(1) } else { instruction.op0_register() };
                let [low, _] = state.vector(first);
                let high = self.operand(instruction, last, state);
                state.set_vector(instruction.op0_register(), [low, high]);
            }
            M::Movups
            | M::Movaps
            | M::Movdqu
            | M::Movdqa
            | M::Movupd
            | M::Movapd
            | M::Vmovups
            | M::Vmovaps
            | M::Vmovdqu
            | M::Vmovdqa
            | M::Vmovupd
            | M::Vmovapd => self.copy_vector(instruction, state),
            M::Pxor | M::Xorps | M::Xorpd | M::Vpxor | M::Vxorps | M::Vxorpd
                if last >= 1 && instruction.op_register(last) == instruction.op_register(last - 1) =>
            {
                state.set_vector(instruction.op0_register(), [Value::Constant(0), Value::Constant(0)]);
            }
            _ => return false,
        }
        true
    }

    fn copy_vector(&mut self, instruction: &Instruction, state: &mut State) {
        let words = match instruction.op1_kind() {
            OpKind::Memory => {
                let address = address(instruction, state);
                [0, 8].map(|offset| self.read(&address.plus(offset), 8, state))
            }
            _ => state.vector(instruction.op1_register()),
        };
        if instruction.op0_kind() == OpKind::Register {
            state.set_vector(instruction.op0_register(), words);
            return;
        }
        let address = address(instruction, state);
        let words = words.into_iter().chain(std::iter::repeat(Value::Unknown));
        for (offset, word) in (0..i64::from(width(instruction))).step_by(8).zip(words) {
            self.write(&address.plus(offset), 8, word, state);
        }
    }

    /// The value of an operand; reading memory is reported.
    fn operand(&mut self, instruction: &Instruction, number: u32, state: &State) -> Value {
        match instruction.op_kind(number) {
            OpKind::Register => state.get(instruction.op_register(number)),
            OpKind::Memory => self.read(&address(instruction, state), width(instruction), state),
            _ => immediate(instruction, number).map_or(Value::Unknown, Value::Constant),
        }
    }

    /// Writes the first operand.
    fn write_operand(&mut self, instruction: &Instruction, value: Value, state: &mut State) {
        match instruction.op0_kind() {
            OpKind::Register => {
                note_escape(instruction.op0_register(), &value, state);
                state.set(instruction.op0_register(), value);
            }
            _ => self.write(&address(instruction, state), width(instruction), value, state),
        }
    }

    fn read(&mut self, address: &Value, width: u8, state: &State) -> Value {
        match address {
            Value::Stack(offset) => return state.stack_slot(*offset, width),
            Value::Static(at) if width == 8 => {
                if let Some(target) = self.image.pointer(*at) {
                    return Value::Static(target);
                }
            }
            _ => {}
        }
        let Some(place) = address.at(width) else {
            return Value::Unknown;
        };
        self.facts.push(Fact::Load(place.clone()));
        Value::loaded(place)
    }

    fn write(&mut self, address: &Value, width: u8, value: Value, state: &mut State) {
        if let Value::Stack(offset) = address {
            state.escaped |= matches!(value, Value::Stack(_)) && width == 8 && !is_frame_pointer(&value, state);
            state.set_stack_slot(*offset, width, value);
        } else {
            state.escaped |= matches!(value, Value::Stack(_));
            if *address == Value::Unknown && state.escaped {
                state.forget_stack();
            }
            self.facts.extend(address.at(width).map(|place| Fact::Store(place, value)));
        }
    }

    /// Whatever the instruction writes is unknown from here on; what it reads and writes in memory is reported.
    fn forget(&mut self, instruction: &Instruction, state: &mut State) {
        let memory = (0..instruction.op_count()).any(|number| instruction.op_kind(number) == OpKind::Memory);
        let info = self.registers.info(instruction);
        let writes = |access: OpAccess| {
            matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
        };
        let written: Vec<Register> =
            info.used_registers().iter().filter(|used| writes(used.access())).map(UsedRegister::register).collect();
        let memory_written = info.used_memory().iter().any(|used| writes(used.access()));
        let memory_read =
            info.used_memory().iter().any(|used| !matches!(used.access(), OpAccess::Write | OpAccess::NoMemAccess));
        if memory {
            let address = address(instruction, state);
            if memory_read {
                self.read(&address, width(instruction), state);
            }
            if memory_written {
                self.write(&address, width(instruction), Value::Unknown, state);
            }
        } else if memory_written {
            state.forget_stack();
        }
        for register in written {
            state.set(register, Value::Unknown);
        }
    }
}

fn lea(instruction: &Instruction, state: &mut State) {
    let value = address(instruction, state);
    note_escape(instruction.op0_register(), &value, state);
    state.set(instruction.op0_register(), value);
}

/// A stack address in a register that calls do not keep is about to be passed on.
fn note_escape(register: Register, value: &Value, state: &mut State) {
    let stays = matches!(register, Register::RSP | Register::RBP);
    state.escaped |= matches!(value, Value::Stack(_)) && !stays;
}

/// `push rbp` saves a value that nobody else ever sees.
fn is_frame_pointer(value: &Value, state: &State) -> bool {
    state.get(Register::RBP) == *value
}

fn move_stack_pointer(state: &mut State, by: i64) {
    let moved = state.get(Register::RSP).plus(by);
    state.set(Register::RSP, moved);
}

fn virtual_target(function: &Place) -> Target {
    // function = object's first word + slot
    let vtable = function.base.place().filter(|place| place.offset == 0 && place.width == 8);
    match (vtable, u64::try_from(function.offset)) {
        (Some(first_word), Ok(slot)) => Target::Virtual { object: first_word.base.clone(), slot },
        _ => Target::Unknown,
    }
}

/// The address of the memory operand.
fn address(instruction: &Instruction, state: &State) -> Value {
    if matches!(instruction.memory_segment(), Register::FS | Register::GS) {
        return Value::Unknown;
    }
    if instruction.is_ip_rel_memory_operand() {
        return Value::Static(instruction.ip_rel_memory_address());
    }
    let displacement = instruction.memory_displacement64().cast_signed();
    let base = match instruction.memory_base() {
        Register::None => Value::Constant(0),
        register => state.get(register),
    };
    match instruction.memory_index() {
        Register::None => base.plus(displacement),
        register => match state.get(register) {
            Value::Constant(index) => {
                let scaled = index.wrapping_mul(u64::from(instruction.memory_index_scale())).cast_signed();
                base.plus(scaled.wrapping_add(displacement))
            }
            _ => Value::Unknown,
        },
    }
}

/// Bytes of the memory operand.
fn width(instruction: &Instruction) -> u8 {
    u8::try_from(instruction.memory_size().size()).unwrap_or(u8::MAX)
}

fn immediate(instruction: &Instruction, operand: u32) -> Option<u64> {
    instruction.try_immediate(operand).ok()
}

fn same_registers(instruction: &Instruction) -> bool {
    instruction.op_count() == 2
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register()
}
