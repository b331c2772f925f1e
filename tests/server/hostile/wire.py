"""Just enough protocol for the submissions in this folder; standard library and NumPy."""

import http.client
import io
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


def dumps(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def loads(body):
    return np.load(io.BytesIO(body))


def serve(predict, ready=lambda: b'{"ready": true}', version="HTTP/1.1"):
    """Answer for a model; `predict` gets the handler and the body, and gives the answer's body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = version
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self):
            self.reply(ready())

        def do_POST(self):
            answer = predict(self, self.rfile.read(int(self.headers["content-length"])))
            if answer is not None:
                self.reply(answer)

        def reply(self, body, status=200):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["MODEL_PORT"])), Handler).serve_forever()


class Referee:
    """The referee, as an attack sees it."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(
            os.environ["MODEL_SERVER"], int(os.environ["MODEL_PORT"])
        )
        self.task = json.loads(self.ask("GET", "/v1/task")[1])
        self.images = loads(self.ask("GET", "/v1/images.npy")[1])

    def ask(self, method, path, body=b""):
        self.connection.request(method, path, body)
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def predict(self, row, images):
        samples = ",".join([str(row)] * len(images))
        return self.ask("POST", f"/v1/predict?samples={samples}", dumps(images))

    def store(self, row, image):
        return self.ask("POST", f"/v1/adversarials/{row}", dumps(image))

    def done(self):
        return self.ask("POST", "/v1/done")
