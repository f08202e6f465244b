"""Forecast a run before it is paid for: the real engine and the real strategies in virtual time."""

from mpibo.forecast.durations import Duration, duration_of
from mpibo.forecast.simulation import Forecast, forecast
from mpibo.forecast.told import Told
from mpibo.forecast.virtual import Charges

__all__ = ["Charges", "Duration", "Forecast", "Told", "duration_of", "forecast"]
