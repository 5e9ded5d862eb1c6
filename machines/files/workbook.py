"""A spreadsheet, of which no more is read than a table can hold."""

import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, NoReturn
from zipfile import ZipFile

from django.utils.translation import gettext as _
from openpyxl.cell.text import Text
from openpyxl.reader.excel import ExcelReader
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

from beidou.base.errors import InvalidInput

_TAGS_OF_A_CELL: Final = 4
_TAGS_AT_ONCE_MAX: Final = 100_000  # the widest row, with a value in every cell, has 66,000
# Whatever would make tags of what does not look like them: no spreadsheet writes it.
_DISGUISED: Final = re.compile(
    rb"\0|<!DOCTYPE|<\?xml[^>]*encoding\s*=\s*[\"'](?!utf-8[\"'])", re.IGNORECASE
)
_STRING: Final = f"{{{SHEET_MAIN_NS}}}si"


def _refuse() -> NoReturn:
    sentence = _(
        "The file holds far more than a table; copy the table alone into a new file, or save it as "
        "CSV."
    )
    raise InvalidInput(sentence, fields={"file": sentence})


class Archive(ZipFile):
    """Gives out no more tags than a table of that many rows can have.

    A small archive can hold millions of them, and each costs hundreds of bytes and microseconds as
    long as what holds it is not at its end.
    """

    def __init__(self, file: IO[bytes], *, tags_max: int) -> None:
        super().__init__(file)
        self.tags_max = tags_max  # of one part
        self.in_hand = 0  # given out since something was read to its end

    def open(self, *args: Any, **kwargs: Any) -> IO[bytes]:
        self.in_hand = 0
        return _Counted(super().open(*args, **kwargs), self)  # type: ignore[return-value]

    def each_is_done(self, found: Iterable[Any]) -> Iterator[Any]:
        for each in found:
            self.in_hand = 0
            yield each


class _Counted:
    """A part of the archive, whose tags are counted."""

    def __init__(self, part: IO[bytes], archive: Archive) -> None:
        self._part, self._archive = part, archive
        self._tags, self._last = 0, b""

    def read(self, *args: Any) -> bytes:
        found = self._part.read(*args)
        if _DISGUISED.search(self._last + found):
            raise ValueError("no plain XML")
        self._last = found[-50:]
        tags = found.count(b"<")
        self._tags += tags
        self._archive.in_hand += tags
        if self._tags > self._archive.tags_max or self._archive.in_hand > _TAGS_AT_ONCE_MAX:
            _refuse()
        return found

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *args: object) -> None:
        self._part.close()

    def close(self) -> None:
        self._part.close()


class Reader(ExcelReader):  # type: ignore[misc]
    """Of a workbook the values alone, from an archive that counts."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive.fp, read_only=True, data_only=True, keep_links=False)
        self.archive = archive

    def shown_sheet(self) -> Any:
        self.read()
        return self.wb.active

    def read_strings(self) -> None:
        """As the original, with a word to the archive whenever one is done."""
        part = self.package.find(SHARED_STRINGS)
        if part is None:
            return
        with self.archive.open(part.PartName[1:]) as source:
            ends = (node for _event, node in iterparse(source) if node.tag == _STRING)
            for node in self.archive.each_is_done(ends):
                # There are no more texts than cells, each of which has at least these tags.
                if len(self.shared_strings) * _TAGS_OF_A_CELL > self.archive.tags_max:
                    _refuse()
                self.shared_strings.append(Text.from_tree(node).content.replace("x005F_", ""))
                node.clear()
