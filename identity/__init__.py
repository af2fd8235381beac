"""The certificate authority: a ServiceAccount token and a CSR in, a 24-hour X.509-SVID out."""
