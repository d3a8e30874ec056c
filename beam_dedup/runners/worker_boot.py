"""A worker that an engine has asked for: it fetches what the engine tells of the job, its options above all, and begins.

This is what Beam's `boot` does in a container (`sdks/python/container/boot.go`), less what it installs: workers have what their
environment has.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc, endpoints_pb2
from google.protobuf import json_format, text_format

from beam_dedup.runners.redaction import hide_secrets

_PATIENCE_SECONDS = 60
_INSTALLED = ("requirements_file", "setup_file", "extra_packages", "save_main_session")  # by `boot`


class NotDoneError(Exception):
    """The job asks for something that has to be done beforehand."""


def provisioned(endpoint: str, worker_id: str) -> beam_provision_api_pb2.ProvisionInfo:
    """What the engine tells of the job."""
    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        answer: beam_provision_api_pb2.GetProvisionInfoResponse = stub.GetProvisionInfo(
            request, metadata=[("worker_id", worker_id)], timeout=_PATIENCE_SECONDS, wait_for_ready=True
        )
    return answer.info


def environment(
    info: beam_provision_api_pb2.ProvisionInfo, worker_id: str, control: str, logging: str
) -> dict[str, str]:
    """The variables in which Beam's worker looks for what it is told.

    Raises:
      NotDoneError: the job wants packages to be installed.
    """
    options = json_format.MessageToDict(info.pipeline_options)
    if wanted := [name for name in _INSTALLED if _value(options, name)]:
        raise NotDoneError(
            f"--{wanted[0]}: install it in the environment of the workers, and leave the option out"
        )
    endpoints = {
        "CONTROL": info.control_endpoint.url or control,
        "LOGGING": info.logging_endpoint.url or logging,
        "STATUS": info.status_endpoint.url,
    }
    described = {
        f"{name}_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
            endpoints_pb2.ApiServiceDescriptor(url=url)
        )
        for name, url in endpoints.items()
        if url
    }
    return {
        **described,
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json.dumps(options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def _value(options: Mapping[str, Any], name: str) -> Any:
    return options.get(f"beam:option:{name}:v1") or options.get(name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m beam_dedup.runners.worker_boot")
    for name in ("id", "control_endpoint", "logging_endpoint", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args(arguments)
    info = provisioned(given.provision_endpoint, given.id)
    try:
        told = environment(info, given.id, given.control_endpoint, given.logging_endpoint)
    except NotDoneError as error:
        sys.exit(f"worker {given.id}: {error}")
    os.environ.update(told)
    hide_secrets(json_format.MessageToDict(info.pipeline_options))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


if __name__ == "__main__":
    main()
