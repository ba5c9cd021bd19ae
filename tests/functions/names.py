"""The functions of this app, by the names that the tests use."""

LOGIN, USER_PROFILES, SEARCH = "login", "user-profiles", "search"
