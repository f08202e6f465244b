"""A run's live view as an SVG picture: ``python examples/live_picture.py RUN OUT.svg [--at 0.6] [--columns 100]``."""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from mpibo.report.live import picture
from mpibo.report.progress import Progress
from mpibo.store import journal


def main() -> None:
    """Draw the run as it was after a part of its journal's lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("out", type=Path, help="SVG file to write")
    parser.add_argument("--at", type=float, default=0.6, help="part of the journal's lines to show (default 0.6)")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--lines", type=int, default=30)
    arguments = parser.parse_args()

    events = journal.read(arguments.run).events
    progress = Progress()
    for event in events[: max(1, round(arguments.at * len(events)))]:
        progress.feed(event)
    view = picture(progress, progress.t, str(arguments.run), arguments.columns, arguments.lines)
    console = Console(record=True, width=arguments.columns, file=io.StringIO(), force_terminal=True)
    console.print(view)
    title = f"mpirun -n {progress.workers + 1} python -m mpibo.run"
    drawing = console.export_svg(title=title, theme=DIMMED_MONOKAI, unique_id="live")
    # the reader's own fonts: no page that shows the picture should fetch one
    drawing = re.sub(r"\s*@font-face \{.*?\}", "", drawing, flags=re.DOTALL)
    fonts = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    arguments.out.write_text(drawing.replace("Fira Code, monospace", fonts), encoding="utf-8")


if __name__ == "__main__":
    main()
