"""A Firestore of the tests: the two calls that a store makes, over a real socket."""

import concurrent.futures

import grpc
from google.cloud.firestore_v1.types import firestore as messages
from google.protobuf.timestamp_pb2 import Timestamp

SERVICE = "google.firestore.v1.Firestore"
NOW = Timestamp(seconds=1_800_000_000)


class FakeFirestore:
    """Keeps documents. `before` and `after` a commit, a test can let something happen."""

    def __init__(self):
        self.documents, self.commits = {}, 0
        self.before = self.after = self.reading = lambda context: None
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        handlers = {
            "Commit": grpc.unary_unary_rpc_method_handler(
                self._commit, messages.CommitRequest.deserialize, messages.CommitResponse.serialize
            ),
            "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(
                self._get,
                messages.BatchGetDocumentsRequest.deserialize,
                messages.BatchGetDocumentsResponse.serialize,
            ),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((handler,))
        self._server.start()

    def _commit(self, request, context):
        self.commits += 1
        self.before(context)
        [write] = request.writes
        if write.update.name in self.documents:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "there is one")
        self.documents[write.update.name] = write.update
        self.after(context)
        return messages.CommitResponse(write_results=[{"update_time": NOW}], commit_time=NOW)

    def _get(self, request, context):
        self.reading(context)
        for name in request.documents:
            found = self.documents.get(name)
            answer = {"found": found} if found else {"missing": name}
            if found:
                found.create_time = found.update_time = NOW
            yield messages.BatchGetDocumentsResponse(read_time=NOW, **answer)

    def close(self):
        self._server.stop(None).wait(30)
