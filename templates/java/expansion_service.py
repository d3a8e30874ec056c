"""Serves the transforms of `beam_dedup.beam_yaml` to pipelines in Java, and runs their workers.

    python expansion_service.py PORT

Serves on 127.0.0.1 only, until Ctrl-C. Beam's own `apache_beam.runners.portability.expansion_service_main` does the same on
all addresses of the machine; anybody who can connect to it can run code.
"""

import signal
import sys

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import (
    beam_artifact_api_pb2_grpc,
    beam_expansion_api_pb2_grpc,
    beam_fn_api_pb2_grpc,
)
from apache_beam.runners.portability.artifact_service import ArtifactRetrievalService, BeamFilesystemHandler
from apache_beam.runners.portability.expansion_service import ExpansionServiceServicer
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.transforms.fully_qualified_named_transform import FullyQualifiedNamedTransform
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

ALLOWED = "beam_dedup.beam_yaml.*"  # names of the transforms that a pipeline may ask for


def main(port: int) -> None:
    address = f"127.0.0.1:{port}"
    # A runner asks this same server for the workers of the transforms.
    options = PipelineOptions(
        ["--environment_type=EXTERNAL", f"--environment_config={address}", "--sdk_location=container"]
    )
    server = grpc.server(shared_unbounded_instance())
    beam_expansion_api_pb2_grpc.add_ExpansionServiceServicer_to_server(
        ExpansionServiceServicer(options), server
    )
    beam_artifact_api_pb2_grpc.add_ArtifactRetrievalServiceServicer_to_server(
        ArtifactRetrievalService(BeamFilesystemHandler(None).file_reader), server
    )
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        BeamFnExternalWorkerPoolServicer(), server
    )
    with FullyQualifiedNamedTransform.with_filter(ALLOWED):
        server.add_insecure_port(address)
        server.start()
        print(f"serving {ALLOWED} on {address}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        server.stop(None)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main(int(sys.argv[1]))
