"""The names of this app's functions, where the tests need to know them."""

LOGIN, USER_PROFILES, SEARCH = "login", "user-profiles", "search"
