"""How far two reports of ``espnetv2 benchmark --json`` disagree: ``python tools/compare_benchmarks.py A.json B.json``.

Prints the first report as Markdown, then each row's ratio in both and the largest disagreement, which on a quiet machine is
below 5 %. With ``--plot FILE`` the first report is drawn as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnetv2.benchmarking.plots import plot_paths, plot_report
from espnetv2.benchmarking.report import Report
from espnetv2.benchmarking.tables import markdown


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs=2, type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    first, second = (Report.model_validate_json(path.read_text("utf-8")) for path in options.reports)
    print(markdown(first), "\n")
    print("\n".join(comparison(first, second)))
    if options.plot is not None:
        plot_report(first, plot_paths(options.plot))


def comparison(first: Report, second: Report) -> list[str]:
    """A line for each row that both reports have, the worst last, and what each says of other load."""
    others = {(row.network, row.backend): row.ratio for row in second.rows}
    pairs = [(row, others[row.network, row.backend]) for row in first.rows if (row.network, row.backend) in others]
    lines = sorted(
        (abs(other / row.ratio - 1), f"{row.network} on {row.backend}: {row.ratio:.3f} and {other:.3f}") for row, other in pairs
    )
    checks = [check.detail for report in (first, second) for check in report.machine.checks if check.name == "other load"]
    return [*(f"{share:.1%}  {line}" for share, line in lines), f"largest disagreement: {lines[-1][0]:.1%}", *checks]


if __name__ == "__main__":
    main()
