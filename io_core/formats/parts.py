"""What is inside of a type?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["any_part"]


def any_part(dtype: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Whether a type, or one inside of it, passes a test; extension types are what they store.

    Example:
        >>> any_part(pa.list_(pa.int8()), pa.types.is_integer)
        True
    """
    if isinstance(dtype, pa.BaseExtensionType):
        return any_part(dtype.storage_type, test)
    if test(dtype):
        return True
    if pa.types.is_dictionary(dtype) or pa.types.is_run_end_encoded(dtype):
        return any_part(dtype.value_type, test)
    return any(any_part(dtype.field(i).type, test) for i in range(dtype.num_fields))
