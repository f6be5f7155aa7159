"""Pure functions from answers to numbers; no torch, so old runs can be measured again."""
