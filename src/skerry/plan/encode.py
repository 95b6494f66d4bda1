"""A plan as the bytes that skerry-init reads.

Runs in: create, exec (hot); pure.   Imports: struct, plan.
Source:  the formats at the top of plan/ops.py; plan/build.py has encoded the operations.
Never:   decides anything; what cannot be encoded is a defect of a recipe, or a spec too large for a plan.
"""

from struct import Struct, pack

from skerry.errors import SpecError
from skerry.plan import ops
from skerry.plan.build import Plan

_HEADER = Struct(ops.HEADER_FORMAT)


def encode(plan: Plan) -> bytes:
    """The plan as one file.

    Shape   header, operations, relocations, data; little endian (plan/ops.py).
    Errors  SpecError at the document when the plan is larger than skerry-init takes.
    """
    operations = plan.operations()
    data = bytes(plan.data) + b"\0"
    relocations = pack(f"<{len(plan.relocations)}I", *plan.relocations)
    start = _HEADER.size + len(operations) + len(relocations)
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
        len(plan.rows),
        len(plan.relocations),
        plan.registers,
        data_offset,
        len(data),
        plan.conversation_fd,
        0,
    )
    return b"".join((header, operations, relocations, bytes(data_offset - start), data))
