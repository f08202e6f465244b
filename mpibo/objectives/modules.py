"""Modules that ``torch.nn`` lacks: the sum of two paths, and an image read row by row."""

from __future__ import annotations

import torch
from torch import nn


class Skip(nn.Module):
    """What ``body`` makes of its input, plus the input itself as ``shortcut`` lets it through."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class Rows(nn.Module):
    """A recurrent network over the rows of an image ``(n, 1, side, side)``; the classes come from its last output.

    Args:
        cell: ``rnn`` (tanh), ``gru`` or ``lstm``.
        hidden: Width of the state, of each direction.
        layers: How many are stacked; ``dropout`` is between them and before the classes.
        both: Also from the last row to the first.
    """

    def __init__(
        self, side: int, cell: str, hidden: int, layers: int, dropout: float, both: bool, classes: int = 10
    ) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        between = dropout if layers > 1 else 0.0
        self.rows = kind(side, hidden, layers, batch_first=True, dropout=between, bidirectional=both)
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden * (2 if both else 1), classes))
        self.hidden, self.both = hidden, both

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.rows(x[:, 0])
        last = out[:, -1]
        if self.both:  # the way back ends at the first row
            last = torch.cat([last[:, : self.hidden], out[:, 0, self.hidden :]], dim=1)
        return self.classes(last)
