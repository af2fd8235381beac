"""Words that every part shares and that know nothing of Kubernetes' wire: names, origins, findings."""
