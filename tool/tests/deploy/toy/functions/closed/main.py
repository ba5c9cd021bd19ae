"""A function of the tests: it answers with its name and its environment."""

import os


def closed(request):
    print("closed was called")
    return {"name": "closed", "environment": dict(os.environ)}
