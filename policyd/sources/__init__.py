"""Where resources come from: files, folders that are watched, and (elsewhere) a cluster."""
