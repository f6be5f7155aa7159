"""`python -m editsweep.bench`: the engine against the plain loop, on this machine, in one run."""
