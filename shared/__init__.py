"""The code that every function gets a copy of."""
