"""An uploaded file as a table, or a sentence why it is none; and a table as a file."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any, Final, NoReturn
from zipfile import BadZipFile, ZipFile

import tablib
from django.core.files.base import File
from django.utils.translation import gettext as _
from import_export.formats import base_formats
from openpyxl.utils.exceptions import InvalidFileException
from tablib.exceptions import TablibException

from beidou.base.errors import InvalidInput
from machines.files import cells
from machines.files.resource import MachineResource
from machines.models import Machine

FILE_BYTES_MAX: Final = 20 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 100 * 1024 * 1024  # 20,000 full rows take about 30
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
    except (TablibException, BadZipFile, InvalidFileException, KeyError, ValueError, OSError):
        _refuse(_("The file cannot be read as %(kind)s.") % {"kind": kind.upper()})
    if not dataset.headers or not any(map(cells.is_filled, dataset)):
        _refuse(_("The file has no rows below its heading."))
    return dataset


def _refuse(sentence: str) -> NoReturn:
    raise InvalidInput(sentence, fields={"file": sentence})


def _csv(content: bytes) -> tablib.Dataset:
    """Spreadsheets write semicolons where the comma is the decimal mark."""
    text = content.decode("utf-8-sig")
    heading = text.partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)
    return tablib.Dataset().load(text, format="csv", delimiter=delimiter)


def _xlsx(content: bytes) -> tablib.Dataset:
    """Refused by the sizes in the archive's directory, beyond which nothing is unpacked."""
    with ZipFile(BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > UNPACKED_BYTES_MAX:
        _refuse(
            _("The file is larger than %(max)d MiB when unpacked.")
            % {"max": UNPACKED_BYTES_MAX // 1024**2}
        )
    return FORMATS["xlsx"]().create_dataset(content)


def write(machines: Iterable[Machine], *, kind: str, user: Any) -> bytes:
    """The machines as a file that can be imported again; formulas are made harmless."""
    dataset = MachineResource(user=user).export(queryset=machines)
    harmless = tablib.Dataset(headers=dataset.headers)
    for row in dataset:
        harmless.append([cells.without_formula(value) for value in row])
    data = FORMATS[kind]().export_data(harmless)
    return data.encode("utf-8-sig") if isinstance(data, str) else data
