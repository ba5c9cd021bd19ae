"""Because this file is here, tests in the folders below can import names.py and visitor.py, too."""
