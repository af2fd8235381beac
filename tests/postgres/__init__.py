"""A real PostgreSQL, for whatever test wants one."""
