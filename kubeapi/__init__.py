"""A small client of the Kubernetes API server: who we are, requests, watches. Knows nothing of policies."""
