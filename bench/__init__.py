"""Measurements: reported, never tests. `python -m bench [NAME…]`."""
