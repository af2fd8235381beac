"""The live world: every object as it is now, who selects whom, and what a change touches."""
