"""Instructions that numba has no words for, as code that LLVM is given."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.cpython.unsafe import numbers
from numba.extending import intrinsic

P = ParamSpec("P")

CHUNK = 64
"""Rows of codes are padded to a multiple of so many bytes: a cache line, and the widest vector register."""

LINED = 16
"""Rows of coarse codes that lie side by side: as many as there are 32-bit numbers in the widest vector register."""

_BYTES_AHEAD = 4_096
"""So many bytes of coarse codes are on their way from memory while others are looked at."""

trailing_zeros: Any = numbers.trailing_zeros

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_WIDE, _FLOATS = ir.VectorType(_I32, LINED), ir.VectorType(_FLOAT, LINED)


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
        narrow, wide = ir.VectorType(_I8, length), ir.VectorType(_I32, length)
        rows, vector = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        start = builder.gep(rows, [builder.mul(args[1], ir.Constant(_I64, length))])
        left, right = (_load(builder, data, narrow) for data in (start, vector))
        products = builder.mul(builder.zext(left, wide), builder.sext(right, wide))
        name = f"llvm.vector.reduce.add.v{length}i32"
        return builder.call(_function(builder, name, _I32, [wide]), [products])

    return types.int32(codes, types.int64, query, width), generate


@_intrinsic
def above(
    _: Any, coarse: Any, line: Any, codes: Any, shifts: Any, floors: Any, gains: Any, scales: Any, tops: Any,
    width: Any, many: Any,
) -> Any:  # fmt: skip
    """Return which of LINED rows score above the floors of len(many) queries (4 at most), as bits, query after query.

    A row's score is (product of its coarse codes and `codes[q]` + `shifts[q]`) * scale. Bit r of query q is whether
    that of row r, and `gains[q]` times its top, is above `floors[0, q]`, and in the second number that returns whether
    it is above `floors[1, q]` without.
    `coarse` (uint8 [lines, LINED * CHUNK / 2 * len(width)]) has two codes of 4 bits a byte. Of each row 4 bytes lie
    side by side, then 4 of the next: the low halves are of 4 dimensions, and the high ones of the next 4. So a register
    has a number for each row in the end, and nothing is added up across it.
    """
    padded, queries = width.count * CHUNK, many.count

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        blocks, vectors, shift, floor, gain, scale, top = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 3, 4, 5, 6, 7)
        )
        start = builder.gep(blocks, [builder.mul(args[1], _long(padded * LINED // 2))])
        starts = [builder.gep(vectors, [_long(query * padded)]) for query in range(queries)]
        add_product = _adds_product(builder)
        ways = max(1, 4 // queries)  # a sum must not wait for the one before
        sums = [[ir.Constant(_WIDE, [0] * LINED)] * ways for _ in starts]
        halves = ir.Constant(_WIDE, [0x0F0F0F0F] * LINED)
        for step in range(padded // 8):
            at_step = builder.gep(start, [_long(step * LINED * 4)])
            _fetch(builder, builder.gep(at_step, [_long(_BYTES_AHEAD)]))
            both = _load(builder, at_step, _WIDE)
            high = builder.lshr(both, ir.Constant(_WIDE, [4] * LINED))
            for half, rows in enumerate((builder.and_(both, halves), builder.and_(high, halves))):
                for at, own in zip(starts, sums, strict=True):
                    numbers = _load(builder, builder.gep(at, [_long(8 * step + 4 * half)]), _I32)
                    way = (2 * step + half) % ways
                    own[way] = add_product(own[way], rows, _splat(builder, numbers, _WIDE))
        row = builder.mul(args[1], _long(LINED))
        worth, best = (_load(builder, builder.gep(column, [row]), _FLOATS, align=4) for column in (scale, top))
        bits = [_long(0), _long(0)]
        for query, own in enumerate(sums):
            total = own[0]
            for other in own[1:]:
                total = builder.add(total, other)
            shifted = _splat(builder, builder.load(builder.gep(shift, [_long(query)])), _FLOATS)
            score = builder.fmul(builder.fadd(builder.sitofp(total, _FLOATS), shifted), worth)
            more = builder.fmul(best, _splat(builder, builder.load(builder.gep(gain, [_long(query)])), _FLOATS))
            for kind, reached in enumerate((builder.fadd(score, more), score)):
                least = builder.load(builder.gep(floor, [_long(4 * kind + query)]))
                found = builder.fcmp_ordered(">", reached, _splat(builder, least, _FLOATS))
                of_query = builder.zext(builder.bitcast(found, ir.IntType(LINED)), _I64)
                bits[kind] = builder.or_(bits[kind], builder.shl(of_query, _long(LINED * query)))
        return context.make_tuple(builder, types.UniTuple(types.uint64, 2), bits)

    result = types.UniTuple(types.uint64, 2)
    return result(coarse, types.int64, codes, shifts, floors, gains, scales, tops, width, many), generate


def _adds_product(builder: Any) -> Callable[[Any, Any, Any], Any]:
    """Return what adds, to each number of a register, the product of 4 bytes there and 4 signed bytes of another."""
    if _has("avx512vnni"):
        instruction = _function(builder, "llvm.x86.avx512.vpdpbusd.512", _WIDE, [_WIDE] * 3)
        return lambda total, rows, numbers: builder.call(instruction, [total, rows, numbers])
    if _has("avx2"):
        return lambda total, rows, numbers: builder.add(total, _product_by_pairs(builder, rows, numbers))

    def add(total: Any, rows: Any, numbers: Any) -> Any:
        up = ir.Constant(_WIDE, [24] * LINED)
        for byte in range(4):
            row = builder.and_(
                builder.lshr(rows, ir.Constant(_WIDE, [8 * byte] * LINED)), ir.Constant(_WIDE, [255] * LINED)
            )
            number = builder.ashr(builder.shl(numbers, ir.Constant(_WIDE, [24 - 8 * byte] * LINED)), up)
            total = builder.add(total, builder.mul(row, number))
        return total

    return add


def _product_by_pairs(builder: Any, rows: Any, numbers: Any) -> Any:
    """Return the products by AVX2, which adds up two neighbours at a time: codes of 4 bits leave their sums room."""
    codes, pairs, sums = ir.VectorType(_I8, 32), ir.VectorType(ir.IntType(16), 16), ir.VectorType(_I32, 8)
    by_codes = _function(builder, "llvm.x86.avx2.pmadd.ub.sw", pairs, [codes, codes])
    by_pairs = _function(builder, "llvm.x86.avx2.pmadd.wd", sums, [pairs, pairs])

    def of_half(first: int) -> Any:
        places = ir.Constant(sums, list(range(first, first + 8)))
        halves = [builder.bitcast(builder.shuffle_vector(of, of, places), codes) for of in (rows, numbers)]
        return builder.call(by_pairs, [builder.call(by_codes, halves), ir.Constant(pairs, [1] * 16)])

    return builder.shuffle_vector(of_half(0), of_half(8), ir.Constant(_WIDE, list(range(LINED))))


def _has(feature: str) -> bool:
    """Tell whether code may have instructions: not where numba was told to write for another processor."""
    features = binding.get_host_cpu_features()
    return bool(features.get(feature)) and not (getattr(config, "CPU_NAME", "") or getattr(config, "CPU_FEATURES", ""))


def _function(builder: Any, name: str, result: Any, arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _long(number: int) -> Any:
    return ir.Constant(_I64, number)


def _load(builder: Any, pointer: Any, kind: Any, align: int = 1) -> Any:
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = align
    return loaded


def _splat(builder: Any, number: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_WIDE, [0] * LINED))


@_intrinsic
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element, by its position in the flat array, before it is needed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        _fetch(builder, builder.gep(data, [args[1]]))

    return types.void(array, types.int64), generate


def _fetch(builder: Any, address: Any) -> None:
    pointer = _I8.as_pointer()
    call = _function(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, _I32, _I32, _I32])
    flags = [ir.Constant(_I32, flag) for flag in (0, 3, 1)]  # a read, to stay, of data
    builder.call(call, [builder.bitcast(address, pointer), *flags])
