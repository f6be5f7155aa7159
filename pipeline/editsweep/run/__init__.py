"""Plan a sweep, run its units on workers, keep what comes back."""
