"""A fake Firestore: it knows the calls that the stores and the recipes make, over a real socket."""

import concurrent.futures

import grpc
from google.cloud.firestore_v1.types import Document
from google.cloud.firestore_v1.types import firestore as messages
from google.protobuf.timestamp_pb2 import Timestamp

SERVICE = "google.firestore.v1.Firestore"
NOW = Timestamp(seconds=1_800_000_000)


class FakeFirestore:
    """Keeps documents. A test can set what happens `before` and `after` a commit."""

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
            "RunQuery": grpc.unary_stream_rpc_method_handler(
                self._query, messages.RunQueryRequest.deserialize, messages.RunQueryResponse.serialize
            ),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((handler,))
        self._server.start()

    def _commit(self, request, context):
        self.commits += 1
        self.before(context)
        after = dict(self.documents)  # a commit makes all of its writes, or none
        for write in request.writes:
            name = write.delete or write.update.name
            wanted = write.current_document.exists if "exists" in write.current_document else None
            if wanted is False and name in after:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Document already exists: {name}")
            if wanted and name not in after:
                context.abort(grpc.StatusCode.NOT_FOUND, f"No document to update: {name}")
            if write.delete:
                after.pop(name, None)
                continue
            fields = write.update.fields
            if "update_mask" in write and name in after:
                kept = {k: v for k, v in after[name].fields.items() if k not in write.update_mask.field_paths}
                fields = {**kept, **fields}
            after[name] = Document(name=name, fields=fields)
        self.documents = after
        self.after(context)
        results = [{"update_time": NOW} for _ in request.writes]
        return messages.CommitResponse(write_results=results, commit_time=NOW)

    def _get(self, request, context):
        self.reading(context)
        for name in request.documents:
            found = self.documents.get(name)
            answer = {"found": found} if found else {"missing": name}
            if found:
                found.create_time = found.update_time = NOW
            yield messages.BatchGetDocumentsResponse(read_time=NOW, **answer)

    def _query(self, request, context):
        """The documents of a collection; if the query has a filter, those whose field has that value."""
        self.reading(context)
        asked = request.structured_query
        folder = f"{request.parent}/{asked.from_[0].collection_id}/"
        wanted = asked.where.field_filter
        for name, document in sorted(self.documents.items()):
            field = wanted.field.field_path
            if name.startswith(folder) and (not field or document.fields.get(field) == wanted.value):
                document.create_time = document.update_time = NOW
                yield messages.RunQueryResponse(document=document, read_time=NOW)

    def close(self):
        self._server.stop(None).wait(30)
