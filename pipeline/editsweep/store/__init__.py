"""Results on disk, the one record of a sweep, and their index in MLflow."""
