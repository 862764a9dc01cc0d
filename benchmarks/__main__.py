"""Run benchmarks: ``python -m benchmarks [NAME ...] [--quick]``.

Each prints its report and writes it to ``benchmarks/results`` as JSON; at the end there is
one table of everything that was to be reached. ``--document`` runs nothing: it puts the
results that are there into ``docs/performance.md``. ``--show`` prints results that are there.
"""

import argparse
import importlib
import sys
import time
import traceback

from benchmarks import document, report
from benchmarks.contender import Failed
from benchmarks.report import RESULTS, Report

NAMES = (
    "ann_kinds", "query", "filters", "http_query", "http_ingest", "durable_writes", "churn",
    "scale", "embedding_rate", "error_bound", "kernels", "nodes",
    "export", "find", "dashboard", "snapshots", "changes", "imports", "import_texts",
    "embedding_peers", "large", "growth", "tenfold", "ten_million",
)  # fmt: skip


UNRECORDED = ("sizing",)
"""Run by name only: of this no full run on a quiet machine has been recorded yet."""

_ALL = (*NAMES, *UNRECORDED)


def main() -> None:
    """Run what the command line names, and say what was reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_ALL)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--document", action="store_true", help="write docs/performance.md")
    parser.add_argument("--show", action="store_true", help="print the last full runs")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(_ALL)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: there are only {', '.join(_ALL)}")
    if arguments.document:
        document.update()
        return
    if arguments.show:
        for name, latest in document.latest(RESULTS).items():
            if name in (arguments.names or NAMES):
                print(report.text(latest))
        return
    reports, failures = [], []
    for name in arguments.names or NAMES:
        start, circumstances = time.monotonic(), report.Start.now()
        try:
            ran: Report = importlib.import_module(f"benchmarks.{name}").run(
                is_quick=arguments.quick
            )
            ran = report.started(ran, circumstances)
        except Exception as error:  # the others may take hours, and are worth having
            if not isinstance(error, Failed):
                traceback.print_exc()
            failures.append(f"{name} could not be run: {error}")
            print(failures[-1], file=sys.stderr)
            continue
        report.save(ran)
        reports.append(ran)
        print(report.text(ran))
        print(f"  {name} took {time.monotonic() - start:.0f} s\n", flush=True)
    marked = [result for result in reports if result.marks]
    print("\n".join([*(report.marks_text(marked) if marked else []), *failures]))
    print(f"\nresults are in {RESULTS}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
