"""A plan as the bytes that skerry-init reads.

Runs in: create, exec (hot); pure.   Imports: struct, linux.abi, plan.ops.
Source:  the formats at the top of plan/ops.py.
Never:   decides anything; what cannot be encoded is a defect of a recipe, or a spec too large for a plan.
"""

from struct import Struct, pack

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Plan, Reg

_OP = Struct(ops.OP_FORMAT)
_HEADER = Struct(ops.HEADER_FORMAT)
_U64 = 0xFFFFFFFFFFFFFFFF
_ZEROS = (0,) * ops.ARGUMENTS
_NO_ERRNOS = (0,) * ops.ERRNOS


def encode(plan: Plan) -> bytes:
    """The plan as one file.

    Shape   header, operations, relocations, data; little endian (plan/ops.py).
    Errors  SpecError at the document when the plan is larger than skerry-init takes.
    """
    parts = []
    machine = plan.machine
    syscalls = abi.SYSCALLS
    codes = ops.CODES
    pack_op = _OP.pack
    for name, call, args, dst, fail, errnos, target, process, _ in plan.ops:
        kinds = []
        values = []
        for value in args:
            kind = type(value)
            if kind is int:
                kinds.append(ops.NUMBER)
                values.append(value & _U64)
            elif kind is Reg:
                kinds.append(ops.REGISTER)
                values.append(value.number)
            else:
                kinds.append(ops.DATA)
                values.append(value.offset)
        missing = _ZEROS[len(values) :]
        parts.append(
            pack_op(
                codes[name],
                ops.NO_REGISTER if dst is None else dst.number,
                syscalls[call][machine] if call else 0,
                fail,
                len(values),
                *(errnos + _NO_ERRNOS[len(errnos) :] if errnos else _NO_ERRNOS),
                0 if target is None else target.index,
                *kinds,
                *missing,
                process,
                0,
                *values,
                *missing,
            )
        )
    data = bytes(plan.data) + b"\0"
    relocations = pack(f"<{len(plan.relocations)}I", *plan.relocations)
    start = _HEADER.size + _OP.size * len(parts) + len(relocations)
    data_offset = -(-start // ops.DATA_ALIGN_BYTES) * ops.DATA_ALIGN_BYTES
    total = data_offset + len(data)
    if total > ops.PLAN_LIMIT_BYTES or plan.registers > ops.REGISTERS:
        raise SpecError(
            "",
            f"the plan of this spec takes {total} bytes and {plan.registers} registers; "
            f"skerry-init takes {ops.PLAN_LIMIT_BYTES} and {ops.REGISTERS}",
        )
    header = _HEADER.pack(
        ops.MAGIC,
        ops.VERSION,
        total,
        len(parts),
        len(plan.relocations),
        plan.registers,
        data_offset,
        len(data),
        plan.conversation_fd,
        0,
    )
    return b"".join((header, *parts, relocations, bytes(data_offset - start), data))
