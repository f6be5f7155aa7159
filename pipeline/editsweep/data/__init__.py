"""Files and tables to edit requests; no network."""
