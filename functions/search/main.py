"""search: finds help articles. It has no invoker binding, so nobody may call it."""

import json
import logging
import pathlib

from flask import request

from shared.answers import answer, json_app

log = logging.getLogger(__name__)
app = json_app(__name__)
ARTICLES = json.loads(pathlib.Path(__file__).with_name("articles.json").read_text("utf-8"))


def search(request):
    """The entry point of the function."""
    return answer(app, request)


@app.get("/")
def find():
    """The articles that hold every word of ?q=, in their title or text."""
    words = request.args.get("q", "").lower().split()
    log.info("Searching %d articles for %d words.", len(ARTICLES), len(words))
    found = []
    for article in ARTICLES:
        text = f"{article['title']} {article['text']}".lower()
        if all(word in text for word in words):
            found.append(article)
    return {"results": found}
