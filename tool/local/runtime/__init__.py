"""How functions are built, started, watched and ended."""
