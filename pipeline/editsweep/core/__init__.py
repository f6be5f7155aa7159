"""Plain values that every floor shares; only the standard library and pyarrow."""
