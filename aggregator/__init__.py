"""Gathers market data from many exchanges and hands it to many clients."""

__version__ = "0.1.0"
