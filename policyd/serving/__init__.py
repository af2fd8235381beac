"""HTTPS for the API server to call: a certificate of our own making, and what the API server trusts of it."""
