"""The console script `editsweep`."""
