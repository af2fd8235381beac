"""Generated Python of the wire contract; see proto/generate.py."""
