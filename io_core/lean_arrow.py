"""How is Arrow used without pandas, which it imports, wherever it is, for the first value it makes?

That import takes a second and some 60 MB. `pa.array`, `pa.scalar` and `to_numpy` do it; whoever goes by
an array's buffers does not.
"""

from __future__ import annotations

import importlib.abc
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# What stands for a value, without a word of its type.
_Value = bool | int | float | str | bytes

__all__ = [
    "booleans",
    "in_one_piece",
    "lean_array",
    "lean_numbers",
    "lean_numpy",
    "lean_scalar",
    "numbers_of",
    "of_scalars",
    "prefixed",
    "spare_pandas",
]

_HELD: dict[str, list[pa.DataType]] = {
    "i1": [pa.int8()],
    "i2": [pa.int16()],
    "i4": [pa.int32(), pa.date32(), pa.time32("s")],
    "i8": [pa.int64(), pa.date64(), pa.time64("us"), pa.timestamp("us"), pa.duration("us")],
    "u1": [pa.uint8()],
    "u2": [pa.uint16()],
    "u4": [pa.uint32()],
    "u8": [pa.uint64()],
    "f2": [pa.float16()],
    "f4": [pa.float32()],
    "f8": [pa.float64()],
}
# What numbers the memory of a type holds, by Arrow's number of it: asked many times for each plan.
_NUMBERS = {t.id: np.dtype(name) for name, types in _HELD.items() for t in types}
_TEXTS = frozenset({pa.string().id, pa.binary().id})


class _NoPandas(importlib.abc.MetaPathFinder):
    """Answers an import of pandas as if it were not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def spare_pandas() -> None:
    """Keep Arrow from importing pandas. Only for a process that is ours alone: Arrow looks once."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    pa.array([0])
    sys.meta_path.remove(finder)


def booleans(mask: npt.NDArray[np.bool_]) -> pa.Array:
    """A mask as Arrow has it."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _bits(mask)])


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; not copied where it is.

    Example:
        >>> in_one_piece(pa.chunked_array([[1], [2, 3]])).to_pylist()
        [1, 2, 3]
    """
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)


def lean_array(values: Sequence[_Value | None], dtype: pa.DataType) -> pa.Array:
    """An array of a flat type, made of what its memory holds.

    Args:
        values: Of times and dates the integers that stand for them, of decimals the digits without
            the point; None is null.
        dtype: No dictionary and no half float.

    Raises:
        OverflowError: A value that the type has no place for.
        ValueError: Bytes of another length than those of the type.

    Example:
        >>> lean_array([150, None], pa.decimal128(4, 2)).to_pylist()
        [Decimal('1.50'), None]
        >>> lean_array(["a", "bc"], pa.string()).to_pylist()
        ['a', 'bc']
    """
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        large = pa.large_string() if pa.types.is_string_view(dtype) else pa.large_binary()
        return lean_array(values, large).cast(dtype)
    valid = None
    if None in values:
        valid = _bits(np.fromiter((v is not None for v in values), np.bool_, len(values)))
    return pa.Array.from_buffers(dtype, len(values), [valid, *_memory(values, dtype)])


# Any: numbers of any width.
def lean_numbers(
    values: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Numbers as Arrow has them; the memory stays NumPy's where it is in one piece.

    Args:
        values: The numbers.
        missing: Which of them are null.

    Example:
        >>> lean_numbers(np.array([1, 2], np.int32), np.array([True, False])).to_pylist()
        [None, 2]
    """
    valid = None if missing is None or not missing.any() else _bits(~missing)
    memory = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, memory])


def lean_scalar(value: _Value, dtype: pa.DataType) -> pa.Scalar:
    """One value of a flat type; see `lean_array`.

    Example:
        >>> lean_scalar(1, pa.date32())
        <pyarrow.Date32Scalar: datetime.date(1970, 1, 2)>
    """
    if type(value) is int and (whole := _NUMBERS.get(dtype.id)) is not None and whole.kind != "f":
        memory = [value.to_bytes(whole.itemsize, "little", signed=whole.kind == "i")]
    elif isinstance(value, str | bytes) and dtype.id in _TEXTS:
        raw = value.encode() if isinstance(value, str) else value
        memory = [bytes(4) + len(raw).to_bytes(4, "little", signed=True), raw]
    else:
        return lean_array([value], dtype)[0]
    # Of one value NumPy would cost more than all of the rest.
    return pa.Array.from_buffers(dtype, 1, [None, *map(pa.py_buffer, memory)])[0]


def of_scalars(scalars: Sequence[pa.Scalar | None], dtype: pa.DataType) -> pa.Array:
    """Scalars of one type as an array; None is null.

    Example:
        >>> of_scalars([pa.scalar(1), None], pa.int64()).to_pylist()
        [1, None]
    """
    found = [pa.nulls(1, dtype) if s is None else pa.repeat(s, 1) for s in scalars]
    return pa.concat_arrays([pa.nulls(0, dtype), *found])


def prefixed(prefix: str, texts: pa.Array) -> pa.Array:
    """Each text behind a prefix.

    Example:
        >>> prefixed("a/", pa.array(["b", None])).to_pylist()
        ['a/b', None]
    """
    first, between = (lean_scalar(text, pa.string()) for text in (prefix, ""))
    return pc.binary_join_element_wise(first, texts, between)


# Any: of the array's type.
def numbers_of(array: pa.Array) -> npt.NDArray[Any] | None:
    """Numbers without nulls as NumPy has them, of moments those that stand for them; not to be changed.

    None where the type's memory is no numbers. Copies nothing.

    Example:
        >>> numbers_of(pa.array([1, 2, 3])[1:]), numbers_of(pa.array(["a"]))
        (array([2, 3]), None)
    """
    named = _NUMBERS.get(array.type.id)
    if named is None or not len(array):
        return None if named is None else np.empty(0, named)
    return np.frombuffer(array.buffers()[1], named, len(array), array.offset * named.itemsize)


# Any: of the array's type.
def lean_numpy(array: pa.Array) -> npt.NDArray[Any]:
    """Booleans or numbers without nulls as NumPy has them; numbers are not copied, nor to be changed.

    Example:
        >>> lean_numpy(pa.array([1, 2, 3])[1:]), lean_numpy(pa.array([True, False]))
        (array([2, 3]), array([ True, False]))
    """
    plain = numbers_of(array)
    if plain is not None:
        return plain
    if not pa.types.is_boolean(array.type):
        raise TypeError(f"neither booleans nor numbers: {array.type}")
    if not len(array):
        return np.empty(0, np.bool_)
    memory, start = array.buffers()[1], array.offset
    held = np.frombuffer(memory, np.uint8, offset=start // 8)
    bits = np.unpackbits(held, count=start % 8 + len(array), bitorder="little")
    return bits[start % 8 :].view(np.bool_)


def _sign(dtype: pa.DataType) -> str:
    return "u" if pa.types.is_unsigned_integer(dtype) else "i"


def _memory(values: Sequence[_Value | None], dtype: pa.DataType) -> list[pa.Buffer]:
    t = pa.types
    if t.is_boolean(dtype):
        return [_bits(np.fromiter(map(bool, values), np.bool_, len(values)))]
    if t.is_floating(dtype):
        plain = [0.0 if v is None else v for v in values]
        return [pa.py_buffer(np.array(plain, np.dtype(f"f{dtype.byte_width}")))]
    if t.is_decimal(dtype):
        width = dtype.byte_width
        numbers = [0 if v is None else int(v) for v in values]
        return [pa.py_buffer(b"".join(n.to_bytes(width, "little", signed=True) for n in numbers))]
    if _holds_bytes(dtype):
        parts = [v.encode() if isinstance(v, str) else v or b"" for v in values]
        return _strings([p for p in parts if isinstance(p, bytes)], dtype)
    whole = [0 if v is None else v for v in values]
    return [pa.py_buffer(np.array(whole, np.dtype(f"{_sign(dtype)}{dtype.byte_width}")))]


def _holds_bytes(dtype: pa.DataType) -> bool:
    t = pa.types
    small = t.is_string(dtype) or t.is_binary(dtype) or t.is_fixed_size_binary(dtype)
    return bool(small or t.is_large_string(dtype) or t.is_large_binary(dtype))


def _strings(parts: list[bytes], dtype: pa.DataType) -> list[pa.Buffer]:
    body = pa.py_buffer(b"".join(parts))
    if pa.types.is_fixed_size_binary(dtype):
        if any(len(part) not in {0, dtype.byte_width} for part in parts):
            raise ValueError(f"bytes of another length are no {dtype}")
        return [pa.py_buffer(b"".join(part or bytes(dtype.byte_width) for part in parts))]
    large = pa.types.is_large_string(dtype) or pa.types.is_large_binary(dtype)
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64 if large else np.int32)
    return [pa.py_buffer(ends), body]


def _bits(mask: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
