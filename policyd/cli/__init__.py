"""`policyctl`: everything a person asks of policyd."""
