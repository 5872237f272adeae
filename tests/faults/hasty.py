"""A web that tells people that their answer is saved, and then goes to save it: what the check must notice."""

import io
import threading
import time

from annotation_site.wsgi import application as honest

DELAY_SECONDS = 1.5


def application(environ, start_response):
    if environ["REQUEST_METHOD"] != "POST" or environ["PATH_INFO"] != "/task/compare/":
        return honest(environ, start_response)
    length = int(environ["CONTENT_LENGTH"])
    later = environ | {"wsgi.input": io.BytesIO(environ["wsgi.input"].read(length))}

    def save() -> None:
        time.sleep(DELAY_SECONDS)
        honest(later, lambda *arguments: None).close()

    threading.Thread(target=save, daemon=True).start()
    start_response("303 See Other", [("Location", "/task/"), ("Content-Length", "0")])
    return []
