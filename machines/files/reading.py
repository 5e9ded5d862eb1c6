"""An uploaded file as a table, or a sentence why it is none; and a table as a file."""

import csv
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

import tablib
from django.core.files.base import File
from django.utils.translation import gettext as _
from import_export.formats import base_formats
from openpyxl.utils.exceptions import InvalidFileException
from tablib.exceptions import TablibException

from beidou.base.errors import InvalidInput
from machines.files import cells, workbook
from machines.files.resource import COLUMNS, READ_ONLY, MachineResource
from machines.models import Machine

FILE_BYTES_MAX: Final = 20 * 1024 * 1024
ROWS_MAX: Final = 20_000
# One more than there are names for: the heading shows then that something is unknown or double.
_COLUMNS_MAX: Final = len(COLUMNS) + len(READ_ONLY) + 1
UNPACKED_BYTES_MAX: Final = 100 * 1024 * 1024  # 20,000 full rows take about 30
# A cell with its text in it has six signs for a tag; of texts that are shared half are elsewhere.
_TAGS_MAX: Final = ROWS_MAX * _COLUMNS_MAX * 6
_UNREADABLE: Final = (
    TablibException, BadZipFile, InvalidFileException, zlib.error, ParseError,
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
FORMATS: Final = {"csv": base_formats.CSV, "xlsx": base_formats.XLSX}


def kind_of(name: str) -> str:
    """ "csv" or "xlsx" by the end of the file's name; raises ``InvalidInput``."""
    kind = name.rpartition(".")[2].lower()
    if kind not in FORMATS:
        sentence = _("“%(name)s” is neither a .csv nor a .xlsx file.") % {"name": name}
        raise InvalidInput(sentence, fields={"file": sentence})
    return kind


def content_of(upload: "File[bytes]") -> bytes:
    """The uploaded bytes, one more than ``read`` takes at most: a huge file is never in memory."""
    content: bytes = upload.read(FILE_BYTES_MAX + 1)
    return content


def read(name: str, content: bytes) -> tablib.Dataset:
    """The rows of the file, the first being the heading; raises ``InvalidInput``."""
    kind = kind_of(name)
    if len(content) > FILE_BYTES_MAX:
        _refuse(_("The file has more than 20 MiB."))
    try:
        dataset = _csv(content) if kind == "csv" else _xlsx(content)
    except UnicodeDecodeError:
        _refuse(_("The file is not in UTF-8; save it as “CSV UTF-8”."))
    except _UNREADABLE:
        _refuse(_("The file cannot be read as %(kind)s.") % {"kind": kind.upper()})
    if not dataset.headers or not any(map(cells.is_filled, dataset)):
        _refuse(_("The file has no rows below its heading."))
    return dataset


def _refuse(sentence: str) -> NoReturn:
    raise InvalidInput(sentence, fields={"file": sentence})


def _csv(content: bytes) -> tablib.Dataset:
    """Spreadsheets write semicolons where the comma is the decimal mark."""
    text = content.decode("utf-8-sig")
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)
    return _table(_in_their_lines(_rows(text, delimiter)))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """A quotation mark that is not closed would take all further rows into its cell."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for row in reader:
            yield row
            begins = reader.line_num + 1
    except csv.Error:
        _refuse(
            _("The row that begins in line %(line)d cannot be read: perhaps a quotation mark is "
              "not closed, or one inside a cell is not written twice.")
            % {"line": begins}
        )  # fmt: skip


def _in_their_lines(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Blank lines stay where another follows, which keeps its number so; those above the heading
    count as if they stood below it."""
    blank: list[list[str]] = []
    has_heading = False
    for row in rows:
        if not row:
            blank.append(row)
        elif not has_heading:
            has_heading = True
            yield row
        else:
            yield from blank
            blank = []
            yield row


def _xlsx(content: bytes) -> tablib.Dataset:
    """Refused by the sizes in the archive's directory, beyond which nothing is unpacked."""
    with ZipFile(BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > UNPACKED_BYTES_MAX:
        _refuse(
            _("The file is larger than %(max)d MiB when unpacked.")
            % {"max": UNPACKED_BYTES_MAX // 1024**2}
        )
    with workbook.Archive(BytesIO(content), tags_max=_TAGS_MAX) as archive:
        sheet = workbook.Reader(archive).shown_sheet()
        # A sheet says itself how large it is, and a lie there would be filled up with empty cells.
        sheet.reset_dimensions()
        bounds = {"max_row": ROWS_MAX + 2, "max_col": _COLUMNS_MAX}
        rows = sheet.iter_rows(values_only=True, **bounds)
        return _table(_without_end(row) for row in archive.each_is_done(rows))


def _without_end(row: Iterable[Any]) -> list[Any]:
    """The cells up to the last one that holds something."""
    cells = list(row)
    while cells and cells[-1] is None:
        cells.pop()
    return cells


def _table(rows: Iterable[list[Any]]) -> tablib.Dataset:
    """Refuses while it reads: what is too much is never in memory."""
    dataset = tablib.Dataset()
    for number, row in enumerate(rows):
        if number == 0:
            dataset.headers = row
            continue
        if number > ROWS_MAX:
            _refuse(_("The file has more than %(max)d rows.") % {"max": ROWS_MAX})
        dataset.append(_as_wide_as(len(dataset.headers or []), row, line=number + 1))
    return dataset


def _as_wide_as(width: int, row: list[Any], line: int) -> list[Any]:
    """Cells that stand outside the heading belong to no column; empty ones are passed over."""
    if cells.is_filled(row[width:]):
        _refuse(
            _("Line %(line)d has more cells than the heading; in a CSV file a cell with a comma "
              "or a semicolon in it stands in quotation marks.")
            % {"line": line}
        )  # fmt: skip
    return row[:width] + [""] * (width - len(row))


def write(machines: Iterable[Machine], *, kind: str, user: Any) -> bytes:
    """The machines as a file that can be imported again; formulas are made harmless, and XLSX gets
    what it can hold."""
    dataset = MachineResource(user=user).export(queryset=machines)
    harmless = tablib.Dataset(headers=dataset.headers)
    for row in dataset:
        written = [cells.without_formula(value) for value in row]
        harmless.append([cells.for_xlsx(value) for value in written] if kind == "xlsx" else written)
    data = FORMATS[kind]().export_data(harmless)
    return data.encode("utf-8-sig") if isinstance(data, str) else data
