"""A cluster as a source: which kinds are followed, from their JSON to the objects that files give too."""
