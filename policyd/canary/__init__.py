"""Requests that must be allowed, and others that must not: proof that what is written is enforced (P-20)."""
