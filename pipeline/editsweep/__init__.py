"""EditSweep: measure model editors at scale."""

__version__ = "0.1.0"
