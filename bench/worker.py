"""A worker that knows one more kind: ``Nothing``, whose step does nothing. ``python -m
bench.worker``."""

import os

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beidou.settings")
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415  needs the line above

    from bench import nothing  # noqa: PLC0415

    nothing.register()
    call_command("work")


if __name__ == "__main__":
    main()
