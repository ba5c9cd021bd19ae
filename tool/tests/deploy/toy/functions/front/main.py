"""A function of the tests: it answers with its name and its environment."""

import os


def front(request):
    print("front was called")
    return {"name": "front", "environment": dict(os.environ)}
