"""`policyctl up`: a small kubelet for loopback, on Linux: to try and test, no isolation boundary."""
