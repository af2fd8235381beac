"""What is installed into a cluster: from install settings to Kubernetes objects.

The one source of `policyctl install` and of the Helm chart. Nothing here speaks with a cluster.
"""
