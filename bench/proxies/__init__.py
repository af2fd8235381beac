"""policyd-proxy beside Envoy and HAProxy: one run, one core, the same certificates, rules and load."""
