"""What identity and policyd, as servers of the mesh, share: SVIDs, TLS, gRPC servers, logs, shutdown."""
