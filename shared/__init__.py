"""What every function gets a copy of."""
