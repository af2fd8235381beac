"""What identity does where there is an API server: tokens reviewed, pods watched, bundles published."""
