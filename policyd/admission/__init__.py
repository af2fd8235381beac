"""What the API server asks before it stores an object: whether a policy can be read, and what a pod lacks."""
