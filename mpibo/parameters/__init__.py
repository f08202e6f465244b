"""The four kinds of parameter, Float, Int, Choice and Constant, each with its own encoding.

======  ===================================================================================================
value   what the objective gets: a plain Python object
code    the same for arrays: a number itself, or the index of a choice's level
unit    a uniform draw in [0, 1): equal bins for levels, uniform on the (log) scale for numbers
column  what a model sees: position on the (log) scale, 0 = lowest and 1 = highest; one-hot for a choice
======  ===================================================================================================
"""

from mpibo.parameters.choice import Choice, Constant
from mpibo.parameters.number import Float, Int
from mpibo.parameters.parameter import UNSET, Array, Parameter

__all__ = ["UNSET", "Array", "Choice", "Constant", "Float", "Int", "Parameter"]
