"""In which forms does a read come, and what makes each? Engines by their adapters, the rest from Arrow.

The one place of this floor that reaches up to the engines, and only when one is asked for.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import pyarrow as pa

from io_core.errors import DataFileError, DeltaCATError, UnsupportedError, nearest
from io_core.execute import described_schema, execute, read_plan
from io_core.manifest import with_source
from planner_client.arrays import to_numpy
from planner_client.wanted import Wanted, with_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.plan import ReadPlan

__all__ = ["Form", "ReadAs", "form_of"]

ReadAs = Literal[
    "pyarrow",
    "record_batch_reader",
    "pandas",
    "polars",
    "numpy",
    "lance",
    "pyarrow_parquet",
    "daft",
    "ray_dataset",
]


class Form(NamedTuple):
    """What makes one form.

    Attributes:
        of_plan: From the files of a plan, which has a schema.
        of_table: From rows in memory.
    """

    # Any: whatever the form is.
    of_plan: Callable[[ReadPlan, Wanted], Any]
    of_table: Callable[[pa.Table], Any]

    def read(self, plan: ReadPlan, wanted: Wanted) -> Any:
        """A plan's rows; of a schemaless table its files, as a manifest table."""
        if plan.header.schema_serialized is None:
            return self.of_table(with_source(_arrow(plan, wanted), plan))
        return self.of_plan(plan, wanted)


def form_of(name: str) -> Form:
    """What makes the form of this name, whose libraries are there.

    Raises:
        UnsupportedError: There is none, or a library is missing.
    """
    known = get_args(ReadAs)
    if name not in known:
        raise UnsupportedError(
            f"read_as={name!r} is no form to read in{nearest(name, known)}; known: {', '.join(known)}"
        )
    try:
        return _FORMS[name]()
    except ImportError as error:
        raise UnsupportedError(
            f"read_as={name!r} needs {error.name}: pip install {_INSTALL[name]}"
        ) from error


def _eager(name: str, convert: Callable[[pa.Table], Any]) -> Form:
    """Made of one Arrow table, which it may be unable to hold: Python's dates end with the year 9999."""

    def converted(table: pa.Table) -> Any:
        try:
            return convert(table)
        except (OverflowError, ValueError) as error:
            if isinstance(error, DeltaCATError):
                raise
            raise UnsupportedError(
                f"read_as={name!r} cannot hold a value of the rows ({error}): choose columns=, or read "
                "as 'pyarrow'"
            ) from error

    return Form(lambda plan, wanted: converted(_arrow(plan, wanted)), converted)


def _arrow(plan: ReadPlan, wanted: Wanted) -> pa.Table:
    return read_plan(
        plan,
        columns=wanted.columns,
        predicate=wanted.predicate,
        row_limit=wanted.limit,
        row_offset=wanted.offset,
        watched=functools.partial(with_bar, total=wanted.rows_of(plan)),
    )


def _reader(plan: ReadPlan, wanted: Wanted) -> pa.RecordBatchReader:
    schema = described_schema(plan, wanted.columns)
    pieces = execute(
        plan,
        columns=wanted.columns,
        predicate=wanted.predicate,
        row_limit=wanted.limit,
        row_offset=wanted.offset,
    )
    batches = (batch for piece in pieces for batch in _batches(piece))
    return pa.RecordBatchReader.from_batches(schema, batches)


def _batches(piece: pa.Table) -> list[pa.RecordBatch]:
    if piece.num_columns:
        found: list[pa.RecordBatch] = piece.to_batches()
        return found
    # A table without columns has no batches, and its rows count all the same.
    return [pa.record_batch([pa.nulls(piece.num_rows)], [""]).select([])]


def _pandas() -> Form:
    import pandas  # noqa: F401, ICN001  # so that its absence is told before anything is read

    return _eager("pandas", lambda table: table.to_pandas())


def _polars() -> Form:
    from deltacat_sources.polars import forms

    return Form(forms.from_plan, forms.from_arrow)


def _daft() -> Form:
    from deltacat_sources.daft import forms

    return Form(forms.from_plan, forms.from_arrow)


def _ray() -> Form:
    from deltacat_sources.ray import forms

    return Form(forms.from_plan, forms.from_arrow)


def _lance() -> Form:
    import lance  # noqa: F401  # as above

    from io_core.formats.lance import dataset

    return _as_it_is("lance", dataset)


def _parquet() -> Form:
    import pyarrow.parquet as pq

    return _as_it_is("parquet", lambda path, storage: pq.ParquetFile(storage.open_input(path)))


def _as_it_is(content_type: str, opened: Callable[..., Any]) -> Form:
    """The one file of a plan, opened lazily, if its rows are the table's."""

    def of_plan(plan: ReadPlan, wanted: Wanted) -> Any:
        path = _only_file(plan, wanted, content_type)
        try:
            return opened(path, plan.storage)
        except FileNotFoundError:
            raise DataFileError.of(path, "is missing", repr(plan)) from None

    def of_table(table: pa.Table) -> Any:
        raise UnsupportedError(
            f"{table.num_rows} rows in memory are no {content_type} file: read them as 'pyarrow'"
        )

    return Form(of_plan, of_table)


def _only_file(plan: ReadPlan, wanted: Wanted, content_type: str) -> str:
    files = plan.files.select(["path", "content_type", "content_encoding", "deletes"]).to_pylist()
    reason = None
    if not wanted.is_everything:
        reason = "columns, filter_predicate, limit and offset are for what it returns"
    elif len(files) != 1 or plan.header.truncated:
        reason = f"the plan has {plan.total_files} files"
    elif files[0]["content_type"] != content_type or files[0]["content_encoding"] != "identity":
        reason = f"the file is {files[0]['content_type']}, {files[0]['content_encoding']}"
    elif (plan.requires_merge and files[0]["deletes"] is None) or files[0]["deletes"]:
        reason = "the file holds rows that are dead"
    elif plan.has_other_names:
        reason = "the file is older than the table's schema"
    if reason is not None:
        raise UnsupportedError(
            f"{plan!r} cannot be read as one {content_type} file: {reason}; read it as 'pyarrow'"
        )
    path: str = files[0]["path"]
    return path


_FORMS: dict[str, Callable[[], Form]] = {
    "pyarrow": lambda: _eager("pyarrow", lambda table: table),
    "record_batch_reader": lambda: Form(_reader, lambda table: table.to_reader()),
    "pandas": _pandas,
    "polars": _polars,
    "numpy": lambda: _eager("numpy", to_numpy),
    "lance": _lance,
    "pyarrow_parquet": _parquet,
    "daft": _daft,
    "ray_dataset": _ray,
}
_INSTALL = {
    "pandas": "pandas",
    "polars": "'deltacat-sources[polars]'",
    "lance": "'deltacat-sources[lance]'",
    "daft": "'deltacat-sources[daft]'",
    "ray_dataset": "'deltacat-sources[ray]'",
}
