"""Write the table of ``docs/results.md`` from what the bundled weights say of themselves.

python tools/collect_results.py
"""

from __future__ import annotations

from pathlib import Path

from espnetv2.weights import load_checkpoint
from espnetv2.weights.catalogue import BundledWeights, catalogue

DOCUMENT = Path(__file__).parents[1] / "docs/results.md"
START, END = "<!-- table of the bundled weights -->", "<!-- end of the table -->"


def main() -> None:
    """Replace what is between the two marks."""
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")


def with_table(text: str) -> str:
    """A text with the table of the bundled weights between the two marks."""
    rows = ["| weights | input | validation, % | parameters | file |", "|---|---|---|---|---|"]
    for entry in catalogue().values():
        if not isinstance(entry, BundledWeights):
            continue
        state = load_checkpoint(entry.path).state_dict
        learnt = sum(tensor.numel() for name, tensor in state.items() if "running" not in name and "num_batches" not in name)
        figures = ", ".join(f"{name} {value:.2f}" for name, value in entry.metrics.items())
        size = f"{entry.path.stat().st_size / 1e6:.2f} MB"
        rows.append(f"| [`{entry.name}`](models/{entry.name}.md) | {entry.size} | {figures} | {learnt:,} | {size} |")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{chr(10).join(rows)}\n{END}{after}"


if __name__ == "__main__":
    main()
