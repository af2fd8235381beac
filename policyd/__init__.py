"""policyd: the policy controller and its command line."""
