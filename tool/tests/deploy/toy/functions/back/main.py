"""A function of the tests: it answers with its name and its environment."""

import os


def back(request):
    print("back was called")
    return {"name": "back", "environment": dict(os.environ)}
