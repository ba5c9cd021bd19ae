"""Google Cloud on this machine, as far as calls between functions need it."""
