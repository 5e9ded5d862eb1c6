"""Comparing texts whatever their case, by index on both databases.

``Node.objects.filter(name__folded="BJ-R12-07")``, and an index over ``Folded("name")``.  The
database folds both sides, so that they cannot differ in how.  SQLite knows the case of A to Z
alone.  On PostgreSQL the folded text has the collation "C": it compares byte by byte there too, and
a range of it says "begins with".
"""

from typing import Any

from django.db import models


class Folded(models.Transform):
    function = "UPPER"
    lookup_name = "folded"
    bilateral = True

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler, connection, template='(%(function)s(%(expressions)s) COLLATE "C")', **extra
        )


models.CharField.register_lookup(Folded)
