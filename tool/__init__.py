"""The tool that deploys and tests functions. It does not know any of them by name."""
