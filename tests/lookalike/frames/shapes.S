# SPDX-License-Identifier: Apache-2.0
# Functions that call their argument from frames of which no compiler makes all.

    .text

.macro function name
    .globl \name
    .type \name, @function
\name:
.endm

.macro end name
    .size \name, . - \name
.endm

# The frame address is found by rbx.
function cfa_in_rbx
    .cfi_startproc
    pushq %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset %rbx, -16
    movq %rsp, %rbx
    .cfi_def_cfa_register %rbx
    andq $-64, %rsp
    subq $192, %rsp
    callq *%rdi
    movq %rbx, %rsp
    .cfi_def_cfa_register %rsp
    popq %rbx
    .cfi_def_cfa_offset 8
    .cfi_restore %rbx
    ret
    .cfi_endproc
end cfa_in_rbx

# By r13; and rbx, which a caller may need, holds something else.
function cfa_in_r13
    .cfi_startproc
    pushq %r13
    .cfi_def_cfa_offset 16
    .cfi_offset %r13, -16
    movq %rsp, %r13
    .cfi_def_cfa_register %r13
    pushq %rbx
    .cfi_offset %rbx, -24
    movq $-1, %rbx
    andq $-64, %rsp
    callq *%rdi
    movq -8(%r13), %rbx
    .cfi_restore %rbx
    movq %r13, %rsp
    .cfi_def_cfa_register %rsp
    popq %r13
    .cfi_def_cfa_offset 8
    .cfi_restore %r13
    ret
    .cfi_endproc
end cfa_in_r13

# It lies in memory at rsp + 8.
function cfa_by_expression
    .cfi_startproc
    leaq 8(%rsp), %r10
    .cfi_def_cfa %r10, 0
    andq $-64, %rsp
    subq $64, %rsp
    movq %r10, 8(%rsp)
    .cfi_escape 0x0f, 3, 0x77, 8, 0x06      # DW_CFA_def_cfa_expression: breg7 8, deref
    callq *%rdi
    movq 8(%rsp), %r10
    .cfi_def_cfa %r10, 0
    leaq -8(%r10), %rsp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
end cfa_by_expression

# The caller's rbp lies where rsp points to.
function rbp_by_expression
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_escape 0x10, 6, 2, 0x77, 0         # DW_CFA_expression of rbp: breg7 0
    movq $-1, %rbp
    callq *%rdi
    popq %rbp
    .cfi_def_cfa_offset 8
    .cfi_restore %rbp
    ret
    .cfi_endproc
end rbp_by_expression

# The caller's rbp is in r12.
function rbp_in_r12
    .cfi_startproc
    pushq %r12
    .cfi_def_cfa_offset 16
    .cfi_offset %r12, -16
    movq %rbp, %r12
    .cfi_register %rbp, %r12
    movq $-1, %rbp
    callq *%rdi
    movq %r12, %rbp
    .cfi_restore %rbp
    popq %r12
    .cfi_def_cfa_offset 8
    .cfi_restore %r12
    ret
    .cfi_endproc
end rbp_in_r12

# The caller's rbp is one less than what rsp points to.
function rbp_by_value
    .cfi_startproc
    leaq 1(%rbp), %rax
    pushq %rax
    .cfi_def_cfa_offset 16
    .cfi_escape 0x16, 6, 5, 0x77, 0, 0x06, 0x31, 0x1c   # DW_CFA_val_expression of rbp: breg7 0, deref, lit1, minus
    movq $-1, %rbp
    callq *%rdi
    popq %rbp
    decq %rbp
    .cfi_def_cfa_offset 8
    .cfi_restore %rbp
    ret
    .cfi_endproc
end rbp_by_value

# The call is behind a way out of the function.
function state_restored
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    subq $16, %rsp
    .cfi_def_cfa_offset 32
    testq %rdi, %rdi
    jnz 1f
    .cfi_remember_state
    addq $16, %rsp
    .cfi_def_cfa_offset 16
    popq %rbp
    .cfi_def_cfa_offset 8
    .cfi_restore %rbp
    ret
    .cfi_restore_state
1:
    movq $-1, %rbp
    callq *%rdi
    addq $16, %rsp
    .cfi_def_cfa_offset 16
    popq %rbp
    .cfi_def_cfa_offset 8
    .cfi_restore %rbp
    ret
    .cfi_endproc
end state_restored

# The call is in a part of its own, which begins with a frame that is set up.
function two_ranges
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq $-1, %rbp
    jmp two_ranges.cold
    .cfi_endproc
end two_ranges

    .section .text.unlikely, "ax", @progbits
    .type two_ranges.cold, @function
two_ranges.cold:
    .cfi_startproc
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    callq *%rdi
    popq %rbp
    .cfi_def_cfa_offset 8
    .cfi_restore %rbp
    ret
    .cfi_endproc
end two_ranges.cold
    .text

# Nothing says where its caller is.
function without_table
    subq $8, %rsp
    callq *%rdi
    addq $8, %rsp
    ret
end without_table

# The return address of its call is the first one of the function behind, whose rule is a wrong one for it.
function ends_with_call
    .cfi_startproc
    subq $8, %rsp
    .cfi_def_cfa_offset 16
    callq *%rdi
    .cfi_endproc
end ends_with_call

function never_called
    .cfi_startproc
    .cfi_def_cfa_offset 400
    ret
    .cfi_endproc
end never_called

# A signal comes at its first instruction: the one before it belongs to a function whose rule is a wrong one for it.
function traps
    .cfi_startproc
    ud2
    ret
    .cfi_endproc
end traps

    .section .note.GNU-stack, "", @progbits
