"""Run all measures, or those named.

``python -m bench [output latency queue lists inventory scale_up drain health
one_click growth live_page events
event_outage event_clusters event_takeover
event_search]``

Ends with 1 when a target is missed.  The machine may be noisy: figures are ratios and medians of
one run.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

from bench import environment
from bench.report import Measure


def _measures() -> dict[str, Callable[[], Iterator[Measure]]]:
    from bench import (  # noqa: PLC0415  need Django set up
        drain,
        event_clusters,
        event_outage,
        event_search,
        event_takeover,
        events,
        growth,
        health,
        inventory,
        latency,
        lists,
        live_page,
        one_click,
        output,
        queue,
        scale_up,
    )

    return {
        "output": output.run,
        "latency": latency.run,
        "queue": queue.run,
        "lists": lists.run,
        "inventory": inventory.run,
        "scale_up": scale_up.run,
        "drain": drain.run,
        "health": health.run,
        "one_click": one_click.run,
        "growth": growth.run,
        "live_page": live_page.run,
        "events": events.run,
        "event_outage": event_outage.run,
        "event_clusters": event_clusters.run,
        "event_takeover": event_takeover.run,
        "event_search": event_search.run,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    missed = 0
    with environment.portal_settings():
        measures = _measures()
        unknown = set(names) - set(measures)
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(measures)}")
        for name in names or measures:
            environment.empty()
            for measure in measures[name]():
                print(measure, flush=True)
                missed += measure.holds is False
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
