"""Functions that numba compiles to machine code: no GIL while they run, no Python objects in them."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Concatenate, ParamSpec, TypeVar

import numba
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.cpython.unsafe import numbers
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")

CHUNK = 64
"""Rows of codes are padded to a multiple of so many bytes: a cache line, and the widest vector register."""


trailing_zeros: Any = numbers.trailing_zeros
_FOLDER = "CACHE_DIR"  # of numba's settings, which exist only as it runs


def _keep_code() -> bool:
    """Have compiled code kept in the user's cache folder: it takes seconds to make and tens of milliseconds to read.

    numba makes it anew when its source file or the processor is another; what it calls from this file it can't see,
    so this file has a part in the folder's name. Without a folder to write to, every process compiles for itself.
    """
    if getattr(config, _FOLDER):  # the user has chosen one
        return True
    try:
        folder = Path.home() / ".cache" / "vibestream" / f"code-{sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):
        return False
    setattr(config, _FOLDER, str(folder))
    return True


_KEPT = _keep_code()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` at its first call for the types that it is called with."""
    return numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=_KEPT)(function)


def _intrinsic(function: Callable[Concatenate[Any, P], Any]) -> Any:
    """Have `function` write the code of a call: its first argument, numba's types in scope, is not the caller's."""
    return intrinsic(function)


@_intrinsic
def code_product(_: Any, codes: Any, row: Any, query: Any, width: Any) -> Any:
    """Return the product of `codes[row]` (uint8) and `query` (int8), both of len(width) * CHUNK numbers, as int32.

    It is spelled as one wide product and its sum. LLVM knows that form and takes the processor's instruction for it
    (vpdpbusd on x86 with VNNI, udot and its kin on ARM); a loop over elements comes out three times as slow.
    """
    length = width.count * CHUNK

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        narrow, wide = ir.VectorType(ir.IntType(8), length), ir.VectorType(i32, length)
        rows, vector = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        start = builder.gep(rows, [builder.mul(args[1], ir.Constant(ir.IntType(64), length))])
        left, right = (builder.load(builder.bitcast(data, narrow.as_pointer())) for data in (start, vector))
        left.align = right.align = 1
        products = builder.mul(builder.zext(left, wide), builder.sext(right, wide))
        name = f"llvm.vector.reduce.add.v{length}i32"
        total = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i32, [wide]), name)
        return builder.call(total, [products])

    return types.int32(codes, types.int64, query, width), generate


@_intrinsic
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element, by its position in the flat array, before it is needed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer)
        kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [address, *(ir.Constant(i32, flag) for flag in (0, 3, 1))])  # a read, to stay, of data

    return types.void(array, types.int64), generate
