"""Forecasts of a job before it runs: its steps and tokens, memory, operations and time."""

from engine.forecast.forecast import forecast

__all__ = ["forecast"]
