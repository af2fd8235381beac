"""Denials as an API of the cluster, `audit.policyd.dev`: whose they are, and who may read them."""
