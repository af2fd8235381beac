"""What `policyctl check` asks of a cluster: one line for each check, before a user meets what it finds."""
