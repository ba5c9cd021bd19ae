"""What surrounds each function: the front end, the metadata servers, the token endpoint."""
