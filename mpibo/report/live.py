"""The live view: one picture of the run, drawn anew in its place on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live as Drawing
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mpibo.report import words
from mpibo.report.plain import done, summary, troubles
from mpibo.report.progress import SHOWN, Progress
from mpibo.trial import State, Trial

WIDEST = 120
EVERY = 0.25  # seconds between two pictures
STYLES = {State.DONE: "green", State.FAILED: "bold red", State.LOST: "yellow", State.STOPPED: "cyan"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process


class Live:
    """The picture on a terminal that may lie behind a launcher's pipe.

    Args:
        out: Where it is drawn.
        folder: The run folder.
        size: Columns and lines of the terminal as they are now.
    """

    def __init__(self, out: TextIO, folder: str, size: Callable[[], tuple[int, int]]) -> None:
        self.folder = folder
        self._out = out
        self._size = size
        self._console = _Console(force_terminal=True, file=out, highlight=False, markup=False, emoji=False)
        self._resize()
        self._drawing = Drawing(
            console=self._console, auto_refresh=False, vertical_overflow="crop", redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip
        self._drawn = float("-inf")

    def start(self, progress: Progress) -> None:
        """Begin to draw."""
        self._drawing.start()
        self._console.show_cursor(True)  # else it stays hidden when the run is killed

    def show(self, progress: Progress, now: float) -> None:
        """Draw the run as it is now, not more often than a person can see."""
        if abs(now - self._drawn) >= EVERY:
            self._draw(progress, now)

    def warn(self, text: str) -> None:
        """A warning, above the picture."""
        self._console.print(f"warning: {text}")

    def close(self, progress: Progress, now: float, files: Sequence[str]) -> None:
        """The last picture, then the summary."""
        self._draw(progress, now)
        self._drawing.stop()
        self._out.write("\n".join(summary(progress, now, self.folder, files)) + "\n")
        self._out.flush()

    def _draw(self, progress: Progress, now: float) -> None:
        self._resize()
        self._drawn = now
        width, height = self._console.size
        self._drawing.update(picture(progress, now, self.folder, min(width, WIDEST), height), refresh=True)

    def _resize(self) -> None:
        self._console.size = self._size()


def picture(progress: Progress, now: float, folder: str, width: int = 80, height: int = 24) -> RenderableType:
    """The run as a panel: progress, counts, speed, the best config, the last trials.

    Args:
        progress: The run.
        now: Seconds since its last start.
        folder: The run folder.
        width: Columns that it takes.
        height: Lines that it may take.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(no_wrap=True, overflow="ellipsis")
    facts.add_row("Trials", _counts(progress))
    facts.add_row("Speed", _speed(progress, now))
    best, lines = _best(progress, width - 14)
    if progress.choice:
        facts.add_row("Model", Text(words.line(": ".join(progress.choice), width - 14)))
        lines += 1
    facts.add_row("Best", best)
    if progress.failure:
        facts.add_row("Failed", Text(words.line(words.failure(progress.failure), width - 14), style="red"))
        facts.add_row("", Text(words.line(f"mpibo log {folder} {progress.failure.id}")))
        lines += 2
    rows = max(0, min(SHOWN, height - lines - 9))
    title = Text("  ").join(Text(words.line(part, 40)) for part in _title(progress) if part)
    return Panel(
        Group(_bar(progress, now), Text(), facts, *((Text(), _trials(progress, now, rows, width - 4)) if rows else ())),
        title=title, title_align="left", subtitle=Text(words.line(folder)), subtitle_align="right",
        box=box.ROUNDED, padding=(0, 2), width=width, border_style="blue",
    )  # fmt: skip


def _title(progress: Progress) -> list[str]:
    seed = progress.settings.get("seed")
    method = str(progress.settings.get("method", ""))
    return ["mpibo", progress.objective, method, "" if seed is None else f"seed {seed}"]


def _bar(progress: Progress, now: float) -> RenderableType:
    part = progress.fraction(now)
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    done = f"{progress.finished}/{progress.total}" if progress.total else f"{progress.finished}"
    told = [done, words.share(part) if part is not None else ""]
    left = progress.left(now)
    if progress.closed:
        told.append(f"ended after {words.time(progress.elapsed(now))}")
    else:
        told.append(words.time(progress.elapsed(now)) + (f" + {words.time(left)} left" if left is not None else ""))
    row.add_row(
        ProgressBar(total=1.0, completed=part or 0.0, complete_style="green", finished_style="green"),
        Text("   ".join(filter(None, told))),
    )
    return row


def _counts(progress: Progress) -> Text:
    text = Text()
    counts = [("done", done(progress)), ("running", len(progress.ledger.running)), *troubles(progress)]
    styles = {str(state).lower(): style for state, style in STYLES.items()}
    for word, count in counts:
        text.append(f"{count} ", style="bold").append(f"{word}   ", style=styles.get(word, ""))
    return text


def _speed(progress: Progress, now: float) -> Text:
    rate, overall, busy = progress.rate(now), progress.overall_rate(now), progress.busy(now)
    text = Text(f"{words.rate(rate)} now   {words.rate(overall)} overall   " if rate else "")
    many = f"{progress.workers} workers" if progress.workers > 1 else "1 worker"
    return text.append(f"{many} busy " + words.share(busy) if busy is not None else f"{many}")


def _best(progress: Progress, width: int) -> tuple[Text, int]:
    """The best value and its config in at most four lines, and the number of lines."""
    best = progress.best
    if progress.ledger.front and best is None:
        return Text(f"a front of {len(progress.ledger.front)}", style="bold green"), 1
    if best is None:
        return Text("none yet"), 1
    lines, left = [""], [f"{name}={words.value(value)}" for name, value in best.config.items()]
    while left:
        item = words.line(left[0], width)
        if lines[-1] and len(lines[-1]) + 2 + len(item) > width:
            if len(lines) == 3:
                lines[-1] = words.line(f"{lines[-1]}  and {len(left)} more", width)
                break
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + item
        left.pop(0)
    text = Text(words.number(best.value), style="bold green").append(
        f"   trial {best.id}{words.budget(best)}", style="not bold default"
    )
    return text.append("\n" + "\n".join(lines), style="not bold default"), 1 + len(lines)


def _trials(progress: Progress, now: float, rows: int, width: int) -> RenderableType:
    """The trials that ended last, newest first; below them those that run, where there is room."""
    trials = list(progress.recent)[::-1][:rows]
    trials += list(progress.ledger.running.values())[: rows - len(trials)]
    columns = [("Trial", [str(trial.id) for trial in trials]), ("State", [str(t.state).lower() for t in trials]),
               ("Value", [_value(progress, trial) for trial in trials]),
               ("Time", [words.time(progress.seconds(trial, now)) for trial in trials])]  # fmt: skip
    if width >= 100:
        columns.append(("Worker", ["" if trial.worker is None else str(trial.worker) for trial in trials]))
    texts = {"State"}
    for name in progress.parameters or (trials[0].config if trials else ()):
        items = [words.value(trial.config[name], 3) if name in trial.config else "" for trial in trials]
        columns.append((words.line(name, 14), [words.line(item, 16) for item in items]))
        if any(isinstance(trial.config.get(name), str) for trial in trials):
            texts.add(columns[-1][0])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    fitting: list[list[str]] = []
    for name, cells in columns:
        width -= max(map(len, [name, *cells])) + 2
        if width < 2 and fitting:
            table.add_column("...")
            break
        table.add_column(name, no_wrap=True, justify="left" if name in texts else "right")
        fitting.append(cells)
    best = {trial.id for trial in progress.ledger.front}
    for trial, *row in zip(trials, *fitting, strict=True):
        styled = [Text(cell) for cell in row]
        if len(styled) > 1:
            styled[1].stylize(STYLES.get(trial.state, "dim"))
        table.add_row(*styled, style="bold" if trial.id in best else "")
    return table


def _value(progress: Progress, trial: Trial) -> str:
    aims = progress.ledger.aims
    if aims.costs(trial.value, trial.metrics) is not None:
        return words.line(words.result(trial, aims), 32)
    report = progress.reports.get(trial.id)
    return f"{words.number(report[1])} at {report[0]:g}" if report else ""
