"""Asking the engine what the proxy asks it, and telling people what it answered and why."""
