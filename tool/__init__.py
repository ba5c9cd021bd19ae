"""What deploys and tests functions. It knows none of them by name."""
