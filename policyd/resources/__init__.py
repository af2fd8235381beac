"""What people write: one module per kind, strict models, and the reader that makes them of documents."""
