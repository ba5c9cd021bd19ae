"""With this file, pytest finds what stands beside it, names.py and visitor.py, from the folders below, too."""
