"""Reads a metadata file in Parquet, in bounded steps.

A file of a few bytes may decompress to gigabytes, repeat one long value in every row, or claim any number of
rows. So the sizes of the pages are checked before pyarrow decompresses them. Repeated values are read as
a dictionary, and rows are converted to Python objects a few at a time, by what they will take.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata.parquet_pages import PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY, pages
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, most_rows, row_of, unreadable
from beam_dedup.core.model import Reason

PARQUET_MAGIC = b"PAR1"

_FOOTER_BYTES = 1 << 26
_MOST_COLUMNS = 10_000
_PAGE_BYTES = 1 << 27  # of the largest pages of all columns of a row group, decompressed
IMAGE_PAGE_BYTES = 1 << 28  # of the largest dictionary and the largest page of images, decompressed
_FIXED_BYTES = 1 << 16  # of a value of a fixed size
_MOST_VALUES = 1 << 24  # of a column of lists in a row group
_BATCH_ROWS = 256
_BATCH_BYTES = 1 << 26  # that the Python objects of some rows may take
_OBJECT_BYTES = 64  # that a value takes as a Python object, besides its content
_READ_BYTES = 1 << 16  # of a column, read at a time

# Encodings and logical types of columns that can be read as dictionaries.
_DICTIONARY_ENCODINGS = frozenset({PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY})
_TEXTS = ("NONE", "STRING", "JSON", "BSON", "ENUM")


def parquet_rows(stream: BinaryIO, path_key: str = PATH_KEY) -> Iterator[Row | BadRow]:
    """Yields the rows of a Parquet file; columns without a value are left out of a row's metadata.

    Args:
      stream: seekable.
      path_key: the field with the path of an image.
    """
    number = 0
    try:
        metadata = read_footer(stream)
        plain = open_file(stream, metadata).schema_arrow
        for group in range(metadata.num_row_groups):
            if not metadata.row_group(group).num_rows:  # an empty table has such a one, and no page in it
                continue
            texts, size = how_to_read(stream, metadata, group)
            file = open_file(stream, metadata, texts)
            for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
                for value in objects(batch, plain):
                    number += 1
                    if value is None:
                        detail = f"a row of more than {_BATCH_BYTES} bytes"
                        yield BadRow(number, Reason.TOO_LARGE, detail)
                    else:
                        yield row_of(number, value, path_key)
    except ImageError as error:
        yield BadRow(number + 1, error.reason, f"cannot be read as Parquet from here on: {error.detail}")
    except Exception as error:  # noqa: BLE001  pyarrow raises OSError for damage, too
        yield unreadable(number + 1, "Parquet", error)


def read_footer(stream: BinaryIO) -> pq.FileMetaData:
    """Reads the footer of a file and checks its sizes.

    Raises:
      ImageError: a size is too large.
      Exception: almost any, from pyarrow, if the file is damaged.
    """
    size = stream.seek(0, 2)
    stream.seek(max(size - 8, 0))
    footer_bytes = int.from_bytes(stream.read(4), "little")
    if stream.read(4) == PARQUET_MAGIC and footer_bytes > _FOOTER_BYTES:
        raise _too_large(f"a footer of {footer_bytes} bytes; the limit is {_FOOTER_BYTES}")
    metadata = pq.read_metadata(stream)
    if metadata.num_columns > _MOST_COLUMNS:
        raise _too_large(f"{metadata.num_columns} columns; the limit is {_MOST_COLUMNS}")
    row_count = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    if row_count > most_rows(size):
        raise _too_large(f"{row_count} rows in {size} bytes")
    return metadata


def open_file(stream: BinaryIO, metadata: pq.FileMetaData, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """Opens a file; `texts` are the columns that are read as dictionaries."""
    return pq.ParquetFile(
        stream, metadata=metadata, read_dictionary=list(texts), buffer_size=_READ_BYTES, pre_buffer=False
    )


def how_to_read(
    stream: BinaryIO,
    metadata: pq.FileMetaData,
    number: int,
    selected: Callable[[str], bool] = lambda _: True,
    image_path: str = "",
) -> tuple[list[str], int]:
    """Checks the sizes of a row group.

    Args:
      stream: the file.
      metadata: its footer.
      number: of the row group.
      selected: whether a column is read, by its path.
      image_path: the path of a column of images, which may have larger pages.
    Returns:
      The columns to read as dictionaries; and how many rows to read at a time, so that the values of the
      other columns, which may repeat the bytes of a page, fit into memory.
    """
    group, schema = metadata.row_group(number), metadata.schema
    texts: list[str] = []
    total = repeated = 0
    for index in range(group.num_columns):
        column, description = group.column(index), schema.column(index)
        if not selected(description.path):
            continue
        begin = column.data_page_offset
        if column.dictionary_page_offset:  # 0 in files of some programs
            begin = min(begin, column.dictionary_page_offset)
        dictionary_bytes = page_bytes = values = 0
        encodings = set()
        for page in pages(stream, begin, begin + column.total_compressed_size):
            if page.is_dictionary:
                dictionary_bytes = max(dictionary_bytes, page.size)
            else:
                page_bytes, values = max(page_bytes, page.size), values + page.values
                encodings.add(page.encoding)
        is_image = bool(image_path) and description.path == image_path
        if is_image and dictionary_bytes + page_bytes > IMAGE_PAGE_BYTES:
            detail = f"a page of images decompresses to more than {IMAGE_PAGE_BYTES} bytes"
            raise _too_large(f"{detail}: write smaller row groups")
        total += 0 if is_image else dictionary_bytes + page_bytes
        if total > _PAGE_BYTES:
            detail = f"the pages of a row group decompress to more than {_PAGE_BYTES} bytes at a time"
            raise _too_large(f"{detail}: write smaller pages")
        if description.max_repetition_level and values > _MOST_VALUES:
            raise _too_large(f"a row group has a column of {values} values; the limit is {_MOST_VALUES}")
        if description.length > _FIXED_BYTES:
            raise _too_large(f"values of {description.length} bytes; the limit is {_FIXED_BYTES}")
        is_text = description.physical_type == "BYTE_ARRAY"
        if (
            is_text
            and not is_image
            and description.logical_type.type in _TEXTS
            and encodings <= _DICTIONARY_ENCODINGS
        ):
            texts.append(description.path)
        elif is_text:
            repeated += max(dictionary_bytes, page_bytes)
    return texts, max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(repeated, 1)))


def objects(
    batch: pa.RecordBatch, plain: pa.Schema, most_bytes: int = _BATCH_BYTES
) -> Iterator[dict[str, Any] | None]:
    """Yields the rows of a batch as Python objects, with None for a row that would take too much memory.

    Args:
      batch: some rows, with texts in dictionaries.
      plain: the schema without dictionaries.
      most_bytes: that the objects of some rows may take.
    """
    for one in plain_batches(batch, plain, most_bytes):
        if one is None:
            yield None
        else:
            yield from one.to_pylist()


def plain_batches(
    batch: pa.RecordBatch, plain: pa.Schema, most_bytes: int = _BATCH_BYTES
) -> Iterator[pa.RecordBatch | None]:
    """Yields the rows of a batch without dictionaries, which are slow to convert, in batches of a bounded size.

    Args:
      batch: some rows, with texts in dictionaries.
      plain: the schema without dictionaries.
      most_bytes: that the rows of one batch may take as Python objects, or one row. None stands for a row that takes more.
    """
    if sum(_object_bytes(column) for column in batch.columns) <= most_bytes:
        yield batch.cast(plain)
    elif batch.num_rows <= 1:
        yield None
    else:
        half = batch.num_rows // 2
        yield from plain_batches(batch.slice(0, half), plain, most_bytes)
        yield from plain_batches(batch.slice(half), plain, most_bytes)


def _object_bytes(array: pa.Array) -> int:
    """Estimates the memory that an array takes as Python objects."""
    if isinstance(array, pa.ExtensionArray):
        return _object_bytes(array.storage)
    if isinstance(array, pa.DictionaryArray):
        is_text = array.dictionary.type in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())
        longest = pc.max(pc.binary_length(array.dictionary)).as_py() if is_text else None
        return len(array) * (_OBJECT_BYTES + (longest or 0))
    own = _OBJECT_BYTES * len(array)
    if isinstance(array, pa.StructArray):
        return own + sum(_object_bytes(inner) for inner in array.flatten())
    if isinstance(array, pa.MapArray):
        begin, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        pairs = (array.keys.slice(begin, end - begin), array.items.slice(begin, end - begin))
        return own + sum(_object_bytes(inner) for inner in pairs)
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return own + _object_bytes(array.flatten())
    return own + int(array.nbytes)


def _too_large(detail: str) -> ImageError:
    return ImageError(Reason.TOO_LARGE, detail)
