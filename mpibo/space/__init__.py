"""The search space: what a config may be, and configs as rows of numbers for a model.

A config is a dict of the active parameters; ``X`` is ``(n, d)`` float64 in [0, 1]. Per parameter, in their order: a
number or an ordered choice has one column, its position on its (log) scale, which ends at the last level (0.5 if
there is but one); another choice of k levels has k one-hot columns; a constant has none. A parameter (but no
constant) with ``when`` has one more column, ``activity``, 1.0 or 0.0. Inactive: 0.5 in the one column, 1/k in each
of k.

Laws: ``decode(encode([config]))`` is that config (floats to 1e-9); equal configs have equal rows, bit for bit;
``encode(decode(X))`` is ``snap(X)``.
"""

from mpibo.parameters import Choice, Constant, Float, Int, Parameter
from mpibo.space.coding import Column
from mpibo.space.legal import ENUMERABLE
from mpibo.space.space import Space

__all__ = ["ENUMERABLE", "Choice", "Column", "Constant", "Float", "Int", "Parameter", "Space"]
