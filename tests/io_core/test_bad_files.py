"""Does a file that is not what a plan says always become an error that names it?

Never a crash, a hang or another exception; and wrong rows only where a format has no checksum to
notice a changed bit by.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import os
import random
import shutil
import tracemalloc
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from io_core import formats
from io_core.errors import DataFileError, SchemaValidationError, UnsupportedError
from io_core.formats import CONTENT_TYPES, FileRef, encoding
from io_core.formats.avro_blocks import LONGEST_BLOCK, encode_long
from io_core.formats.text import LONGEST_ROW

FORMATS = list(CONTENT_TYPES)
TYPED = [name for name, kind in CONTENT_TYPES.items() if kind.has_types]
GZIPPED = [name for name in FORMATS if name not in TYPED]
ROWS = 60
FLAT = pa.table(
    {
        "n": pa.array(range(ROWS), pa.int64()),
        "t": [None if i % 7 == 0 else f"text {i}" for i in range(ROWS)],
        "f": [i / 3 for i in range(ROWS)],
        "at": pa.array(range(ROWS), pa.timestamp("us")),
    }
)
DEEP = FLAT.append_column(
    "l", pa.array([None if i % 5 == 0 else [i, None] for i in range(ROWS)], pa.list_(pa.int32()))
).append_column("s", pa.array([None if i % 5 == 0 else {"a": f"x{i}"} for i in range(ROWS)]))
FEW = settings(
    max_examples=settings.default.max_examples * 5,  # type: ignore[union-attr]  # conftest sets it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def table_for(kind: str) -> pa.Table:
    return DEEP if kind in TYPED or kind == "json" else FLAT


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One sound file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {kind: f"{folder}/{formats.file_name(kind)}" for kind in FORMATS}
    for kind, path in paths.items():
        formats.write(table_for(kind), path, kind)
    return paths


def parts_of(path: str) -> list[str]:
    """A file, or all the files of a dataset."""
    if not os.path.isdir(path):
        return [path]
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted(found)


def copied(path: str, folder: Path) -> str:
    target = f"{folder}/{next(_NUMBERS)}-{os.path.basename(path)}"
    (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, target)
    return target


_NUMBERS = itertools.count()


def file_of(kind: str, path: str, records: int | None = ROWS) -> FileRef:
    said = CONTENT_TYPES[kind].written_encoding
    return FileRef(path, kind, said, records, "the plan", table_for(kind).schema)


def read_or_refused(file: FileRef) -> pa.Table | None:
    """The rows; None where an error names the file and its plan."""
    try:
        found = formats.read(file)
    except DataFileError as error:
        said = str(error)
    except SchemaValidationError as error:
        # Sound by itself, but of another type than the table's.
        said = f"{error} {file.path} {file.plan}" if "does not fit" in str(error) else str(error)
    else:
        found.validate(full=True)
        return found
    assert file.path in said
    assert file.plan in said
    return None


def changed(body: bytes, how: str, seed: int) -> bytes:
    """The bytes, damaged in one of the ways that disks and networks know."""
    chance = random.Random(seed)
    place = chance.randrange(len(body)) if body else 0
    noise = chance.randbytes(chance.randrange(1, 30))
    match how:
        case "cut":
            return body[:place]
        case "flip":
            return (
                body[:place] + bytes([body[place] ^ 1 << chance.randrange(8)]) + body[place + 1 :]
            )
        case "noise":
            return body[:place] + noise + body[place + len(noise) :]
        case "gone":
            return body[:place] + body[place + len(noise) :]
        case _:
            return body + noise


@pytest.mark.parametrize("kind", FORMATS)
@FEW
@given(how=st.sampled_from(["cut", "flip", "noise", "gone", "more"]), seed=st.integers(0, 2**32))
def test_damaged_bytes_are_an_error_that_names_the_file(
    whole: dict[str, str], tmp_path: Path, kind: str, how: str, seed: int
) -> None:
    path = copied(whole[kind], tmp_path)
    parts = parts_of(path)
    part = parts[seed % len(parts)]
    with open(part, "rb") as stored:
        body = stored.read()
    with open(part, "wb") as out:
        out.write(changed(body, how, seed))
    found = read_or_refused(file_of(kind, path))
    if found is not None and kind in GZIPPED:
        assert found.equals(table_for(kind))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One sound file of each format without checksums of its own, as sinks write it."""
    folder = str(tmp_path_factory.mktemp("checked"))
    kinds = [kind for kind in FORMATS if kind != "parquet"]
    return {kind: formats.write_new(table_for(kind), folder, kind).path for kind in kinds}


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "parquet"])
@given(how=st.sampled_from(["flip", "cut", "noise", "gone", "more"]), seed=st.integers(0, 2**32))
@settings(suppress_health_check=list(HealthCheck))
def test_no_changed_byte_of_a_file_that_a_sink_wrote_is_ever_a_row(
    checked: dict[str, str], tmp_path: Path, kind: str, how: str, seed: int
) -> None:
    folder = tmp_path / str(next(_NUMBERS))
    folder.mkdir()
    path = f"{folder}/{os.path.basename(checked[kind])}"
    (shutil.copytree if os.path.isdir(checked[kind]) else shutil.copy)(checked[kind], path)
    parts = parts_of(path)
    with open(parts[seed % len(parts)], "rb+") as stored:
        body = stored.read()
        spoilt = changed(body, how, seed)
        stored.seek(0)
        stored.truncate()
        stored.write(spoilt)
    found = read_or_refused(file_of(kind, path))
    assert (found is None) == (spoilt != body)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "parquet"])
def test_a_file_that_a_sink_wrote_says_which_checksum_it_should_have(
    checked: dict[str, str], tmp_path: Path, kind: str
) -> None:
    name = os.path.basename(checked[kind])
    assert formats.read(file_of(kind, checked[kind])).equals(table_for(kind))
    wrong = f"{tmp_path}/{'0' * 32}.crc-00000000.{name.partition('.crc-')[2][9:]}"
    (shutil.copytree if os.path.isdir(checked[kind]) else shutil.copy)(checked[kind], wrong)
    told = name.partition(".crc-")[2][:8]
    with pytest.raises(DataFileError, match=f"checksum of its bytes is {told} instead of 00000000"):
        formats.read(file_of(kind, wrong))


@FEW
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_bit_in_parquets_pages_is_never_a_row(
    whole: dict[str, str], tmp_path: Path, place: int, bit: int
) -> None:
    path = copied(whole["parquet"], tmp_path)
    with open(path, "rb") as stored:
        body = bytearray(stored.read())
    chunks = [pq.read_metadata(path).row_group(0).column(i) for i in range(6)]
    chunk = chunks[place % len(chunks)]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    body[start + place % chunk.total_compressed_size] ^= 1 << bit
    with open(path, "wb") as out:
        out.write(body)
    found = read_or_refused(file_of("parquet", path))
    assert found is None or found.equals(DEEP)


def test_no_changed_byte_of_a_parquet_footer_is_ever_a_row(
    whole: dict[str, str], tmp_path: Path
) -> None:
    path = Path(copied(whole["parquet"], tmp_path))
    body = path.read_bytes()
    length = int.from_bytes(body[-8:-4], "little")
    for place in range(len(body) - 8 - length, len(body)):
        damaged = bytearray(body)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = read_or_refused(file_of("parquet", str(path)))
        assert found is None or found.equals(DEEP), place


# A dataset's cut parts are among the damaged bytes above.
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "lance"])
def test_a_file_cut_at_any_place_is_never_fewer_rows(
    whole: dict[str, str], tmp_path: Path, kind: str
) -> None:
    path = copied(whole[kind], tmp_path)
    size = os.stat(path).st_size
    for keep in sorted({*range(0, size, 37), size - 1, size - 2, size - 9}, reverse=True):
        os.truncate(path, keep)
        # Nobody says how many rows there should be.
        with pytest.raises(DataFileError):
            formats.read(file_of(kind, path, None))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("records", [0, ROWS - 1, ROWS + 1])
def test_another_number_of_rows_is_an_error(whole: dict[str, str], kind: str, records: int) -> None:
    with pytest.raises(DataFileError, match=f"instead of {records}"):
        formats.read(file_of(kind, whole[kind], records))
    with pytest.raises(DataFileError, match=f"instead of {records}"):
        formats.read(file_of(kind, whole[kind], records), [])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_file_is_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataFileError, match="is missing"):
        formats.read(file_of(kind, str(tmp_path / "gone")))
    if CONTENT_TYPES[kind].has_types:
        with pytest.raises(DataFileError, match="gone"):
            formats.schema_of_file(str(tmp_path / "gone"), kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_file_is_an_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(DataFileError, match="empty"):
        formats.read(file_of(kind, str(tmp_path / "empty")))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_directory_in_a_files_place_is_an_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"x")
    with pytest.raises(DataFileError, match="folder"):
        formats.read(file_of(kind, str(tmp_path / "folder")))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_a_file_of_another_format_is_an_error(whole: dict[str, str], kind: str, other: str) -> None:
    found = read_or_refused(file_of(kind, whole[other]))
    # Without tabs in its cells the one TSV may be taken for the other.
    assert found is None or kind == other or {kind, other} <= {"tsv", "unescaped_tsv"}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_that_was_cut_off_by_another_column_type_says_so(
    whole: dict[str, str], kind: str
) -> None:
    schema = pa.schema([*FLAT.schema.remove(1), pa.field("t", pa.int64())])
    file = FileRef(whole[kind], kind, CONTENT_TYPES[kind].written_encoding, ROWS, "p", schema)
    with pytest.raises((DataFileError, SchemaValidationError)):
        formats.read(file)


# --- bombs ----------------------------------------------------------------------------------------


def peak_of(file: FileRef) -> int:
    """Bytes of Python's own that a refused read took at most."""
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError):
            formats.read(file)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ZEROS = bytes(1 << 20)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of a gigabyte of zeros, four times the longest row, in a megabyte."""
    path = tmp_path_factory.mktemp("bomb") / "zeros.gz"
    with gzip.open(path, "wb", 1) as out:
        for _ in range(256):
            out.write(ZEROS)
    return path


@pytest.mark.parametrize("kind", GZIPPED)
def test_a_bomb_of_one_endless_line_ends_at_the_longest_row(bomb: Path, kind: str) -> None:
    assert peak_of(file_of(kind, str(bomb))) < 6 * LONGEST_ROW


@pytest.mark.parametrize("kind", GZIPPED)
def test_a_bomb_of_lines_ends_at_the_promised_rows(tmp_path: Path, kind: str) -> None:
    line = b"{}\n" if kind == "json" else b"1\n"
    path = tmp_path / "lines.gz"
    path.write_bytes(gzip.compress(line * (8 << 20), 1))
    file = FileRef(str(path), kind, "gzip", 10, "p", pa.schema([("n", pa.int64())]))
    with pytest.raises(DataFileError, match="instead of 10"):
        formats.read(file)


@pytest.mark.parametrize("kind", ["parquet", "feather", "orc"])
def test_a_bomb_in_a_format_that_is_read_at_any_place_ends_at_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(encoding, "ALLOWED_BYTES", 1 << 22)
    path = tmp_path / "zeros.bz2"
    path.write_bytes(bz2.compress(ZEROS * 64))
    with pytest.raises(DataFileError, match=f"more than {1 << 22} bytes"):
        formats.read(FileRef(str(path), kind, "bzip2"))


def test_what_is_large_and_repeats_itself_is_no_bomb(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array([7] * 300_000)})
    path = f"{tmp_path}/{formats.file_name('csv')}"
    formats.write(table, path, "csv")
    assert formats.read(FileRef(path, "csv", schema=table.schema)).equals(table)


SYNC = bytes(range(16))


def avro_file(path: Path, schema: str, *blocks: tuple[int, bytes], codec: str = "null") -> FileRef:
    """A container with exactly these blocks, sound or not."""
    header = {"avro.schema": schema.encode(), "avro.codec": codec.encode()}
    body = b"Obj\x01" + encode_long(len(header))
    for key, value in header.items():
        body += encode_long(len(key)) + key.encode() + encode_long(len(value)) + value
    body += encode_long(0) + SYNC
    for rows, data in blocks:
        body += encode_long(rows) + encode_long(len(data)) + data + SYNC
    path.write_bytes(body)
    return FileRef(str(path), "avro", plan="the plan")


def record(kind: str) -> str:
    return f'{{"type": "record", "name": "r", "fields": [{{"name": "x", "type": {kind}}}]}}'


def deflated(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-15)


def test_the_smallest_avro_file_is_read(tmp_path: Path) -> None:
    file = avro_file(tmp_path / "a", record('"long"'), (2, b"\x02\x04"), (1, b"\x06"))
    assert formats.read(file).to_pydict() == {"x": [1, 2, 3]}


@pytest.mark.parametrize(
    ("schema", "rows", "body", "codec"),
    [
        (record('"null"'), 2**62, b"", "null"),
        (record('{"type": "null"}'), 2**62, b"", "null"),
        (record('{"type": "array", "items": "null"}'), 1, encode_long(2**62) + b"\0", "null"),
        (record('{"type": "fixed", "name": "f", "size": 0}'), 2**62, b"", "null"),
        (record('"r"'), 1, b"", "null"),
        (record('"long"'), 2**62, b"\x02", "null"),
        (record('"long"'), -1, b"\x02", "null"),
        (record('"long"'), 1, b"\x02\x02", "null"),
        (record('"string"'), 1, encode_long(2**62), "null"),
        (record('["long", "string"]'), 1, b"\x00\x02", "null"),
        (record('["null", "long"]'), 1, b"\x08\x02", "null"),
        (record('"string"'), 1, b"\x02\xff", "null"),
        (record('"long"'), 1, b"\xff" * 11, "null"),
        (record('"long"'), 1, b"\x02", "deflate"),
        (record('"long"'), 1, b"\x02", "bzip2"),
        (record('"long"'), 1, b"\x02", "snappy"),
        (record('"long"'), 1, b"\x02", "zstandard"),
        (record('"long"'), 1, deflated(bytes(LONGEST_BLOCK + 1)), "deflate"),
        (record('"long"'), 1, bz2.compress(bytes(LONGEST_BLOCK + 1)), "bzip2"),
        (record('"nosuch"'), 1, b"\x02", "null"),
        (record('{"type": "array"}'), 1, b"\x02", "null"),
        ("[]", 1, b"\x02", "null"),
        ('"long"', 1, b"\x02", "null"),
        ("[" * 100_000, 1, b"\x02", "null"),
        (record('{"type": "array", "items": ' * 3000 + '"long"' + "}" * 3000), 1, b"\0", "null"),
    ],
)
def test_avro_that_would_never_end_or_makes_no_sense_is_an_error(
    tmp_path: Path, schema: str, rows: int, body: bytes, codec: str
) -> None:
    file = avro_file(tmp_path / "a", schema, (rows, body), codec=codec)
    assert read_or_refused(file) is None


def test_avros_other_codecs_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'xz'"):
        formats.read(avro_file(tmp_path / "a", record('"long"'), (1, b"\x02"), codec="xz"))


# --- text that says something else ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("csv", b"1,2\n"),
        ("csv", b"x\n"),
        ("csv", b"1.5\n"),
        ("csv", b"99999999999999999999\n"),
        ("csv", b'"1\n'),
        ("csv", b"\xff\n"),
        ("json", b'{"n": 1\n'),
        ("json", b'{"n": "x"}\n'),
        ("json", b'{"n": 1.5}\n'),
        ("json", b'{"n": [1]}\n'),
        ("json", b"[1]\n"),
        ("json", b"1\n"),
        ("json", b'{"n": NaN}\n'),
        ("json", b'{"n": ' + b"[" * 100_000 + b"\n"),
        ("json", b"\xff\n"),
    ],
)
def test_text_that_is_no_value_of_its_column_is_an_error(
    tmp_path: Path, kind: str, body: bytes
) -> None:
    (tmp_path / "a").write_bytes(body)
    file = FileRef(
        str(tmp_path / "a"), kind, "identity", 1, "the plan", pa.schema([("n", pa.int64())])
    )
    assert read_or_refused(file) is None


@pytest.mark.parametrize("dtype", [pa.date32(), pa.timestamp("us"), pa.binary(), pa.duration("s"), pa.bool_(), pa.decimal128(4, 1), pa.null()])  # fmt: skip
@pytest.mark.parametrize(("kind", "body"), [("csv", b"what?\n"), ("json", b'{"n": "what?"}\n')])
def test_text_of_no_type_is_never_a_null(
    tmp_path: Path, kind: str, body: bytes, dtype: pa.DataType
) -> None:
    (tmp_path / "a").write_bytes(body)
    file = FileRef(str(tmp_path / "a"), kind, "identity", 1, "the plan", pa.schema([("n", dtype)]))
    assert read_or_refused(file) is None
