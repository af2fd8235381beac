"""From the live world to rule tables: what policies mean, as rows, and as the bytes that the engine reads."""
