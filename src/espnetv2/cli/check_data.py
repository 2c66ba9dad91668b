"""``espnetv2 check-data``: find problems in a data set before training on it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espnetv2.cli import options
from espnetv2.cli.output import print_json, progress_bar, stderr, stdout
from espnetv2.errors import UserError

if TYPE_CHECKING:
    from espnetv2.data.check import Report
    from espnetv2.data.dataset import LabelledData

SHOWN = 10


def check_data(
    data: options.Data,
    dataset: options.Dataset = "auto",
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="S", help="Repeatable; by default train and val.")
    ] = None,
    mask_scale: options.MaskScale = 1.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the contact sheets.")] = Path("check-data"),
    json: options.Json = False,
) -> int:
    """Decode every image and label: check pairs, sizes and label values, count classes, draw a contact sheet.

    The exit code is 2 if a problem makes training impossible.
    """
    from espnetv2.data.check import check_split, compare, differing_classes
    from espnetv2.data.layouts import open_dataset
    from espnetv2.files import results_folder
    from espnetv2.ownership import check_replaceable

    opened = [open_dataset(dataset, data, name, mask_scale=mask_scale) for name in split or ("train", "val")]
    sheets = [out / f"{labelled.split.replace('/', '_').replace(os.sep, '_')}.png" for labelled in opened]
    reports: list[Report] = []
    with results_folder(out):
        check_replaceable(*sheets)
        for labelled, sheet in zip(opened, sheets, strict=True):
            with progress_bar() as progress:
                task = progress.add_task(f"checking {labelled.split}", total=len(labelled))
                report = check_split(labelled, on_image=partial(progress.advance, task))
            report.warnings += compare(report, reports)
            reports.append(report)
            drawn = _draw(labelled, sheet)
            if not json:
                _print_report(report, drawn)
    if differing := differing_classes(opened):
        reports[-1].errors.insert(0, differing)
    if json:
        print_json([report.to_dict() for report in reports])
    problems = [error for report in reports for error in report.errors]
    for error in problems[:SHOWN]:
        stderr().print(f"espnetv2: error: {error}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > SHOWN:
        stderr().print(f"espnetv2: error: and {len(problems) - SHOWN} more: --json lists all of them", highlight=False)
    return 2 if problems else 0


def _draw(labelled: LabelledData, sheet: Path) -> Path | None:
    from espnetv2.data.check import contact_sheet
    from espnetv2.files import atomic_path
    from espnetv2.ownership import save_png

    # If nothing can be drawn, the report already says why.
    with suppress(UserError), atomic_path(sheet) as path:
        save_png(contact_sheet(labelled), path)
        return sheet
    return None


def _print_report(report: Report, sheet: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    sizes = ", ".join(f"{w}x{h} ({count})" for (w, h), count in report.sizes.most_common(5))
    console.print(f"{report.split}: {report.images} images, layout {report.layout}", highlight=False, markup=False)
    console.print(f"  sizes: {sizes}{', …' if len(report.sizes) > 5 else ''}", highlight=False)
    if report.unlabelled:
        console.print(f"  pixels without a class: {report.unlabelled:.1%}", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("  class")
    table.add_column("share", justify="right")
    for name, share in report.frequencies.items():
        table.add_row(Text(f"  {name}"), f"{share:.2%}")
    console.print(table)
    for warning in report.warnings:
        console.print(f"  note: {warning}", highlight=False, markup=False, soft_wrap=True)
    if sheet is not None:
        console.print(f"  contact sheet: {sheet}", highlight=False, markup=False, soft_wrap=True)
