"""Runs the tests that use the database, and neither hosts nor browser, on a PostgreSQL of their
own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab import Lab  # noqa: E402


def summary(output: str) -> str:
    """The counts of pytest's closing line, without its frame."""
    lines = [line for line in output.splitlines() if " in " in line and "=" in line]
    return lines[-1].strip("= ") if lines else "no summary"


def main() -> int:
    with Lab.start(f"postgres-{os.getpid()}") as lab:
        marks = "database and not lab and not browser"
        chosen = ("-m", marks, "-n", "2", "--dist", "loadfile", *sys.argv[1:])
        process = subprocess.run(
            [sys.executable, "-m", "pytest", *chosen],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "BEIDOU_DATABASE_URL": str(lab.postgres())},
        )  # fmt: skip
    if process.returncode:
        print(process.stdout[-20_000:])
        print(process.stderr[-5_000:])
        print(f"PostgreSQL: FAILED: {summary(process.stdout)}")
    else:
        print(f"PostgreSQL: {summary(process.stdout)}")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
