"""Runs a proxy between the Pub/Sub emulator and clients that a test kills.

The emulator does not notice when the connection of a streaming pull breaks, and keeps sending messages into it. The proxy
answers a streaming pull with the results of unary pulls, and forwards all other calls unchanged.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.pubsub_v1.types import PullRequest, PullResponse, StreamingPullRequest, StreamingPullResponse

from tests.services.processes import HOST
from tests.services.servers import Service

_PULL = "/google.pubsub.v1.Subscriber/Pull"
_STREAMING_PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
_TIMEOUT_SECONDS = 30.0
_MAX_MESSAGES = 100  # in one pull


@contextlib.contextmanager
def pubsub_proxy(pubsub: Service) -> Iterator[Service]:
    """Runs a proxy for as long as the block lasts. Yields it as a service for clients that may be killed."""
    with grpc.insecure_channel(pubsub.environment["PUBSUB_EMULATOR_HOST"]) as channel:
        server = grpc.server(ThreadPoolExecutor(16), handlers=[_Handler(channel)])
        address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
        server.start()
        try:
            environment = {**pubsub.environment, "PUBSUB_EMULATOR_HOST": address}
            yield pubsub._replace(url=f"http://{address}", environment=environment)
        finally:
            server.stop(None).wait()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pull = channel.unary_unary(_PULL, PullRequest.serialize, PullResponse.deserialize)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == _STREAMING_PULL:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming_pull, StreamingPullRequest.deserialize, StreamingPullResponse.serialize
            )
        call = self._channel.unary_unary(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda request, _: call(request, timeout=_TIMEOUT_SECONDS))

    def _streaming_pull(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        pull = PullRequest(
            subscription=next(requests).subscription, max_messages=_MAX_MESSAGES, return_immediately=True
        )
        while context.is_active():
            received = self._pull(pull, timeout=_TIMEOUT_SECONDS).received_messages
            if received:
                yield StreamingPullResponse(received_messages=received)
            else:
                time.sleep(0.02)
