"""Starts one worker for a runner: fetches the options of the job from the runner, then runs Beam's worker.

Beam's `boot` does the same in a container (`sdks/python/container/boot.go`). This program differs in one
point: it installs nothing, so a worker has the packages of its environment.
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

from beam_dedup import service_log
from beam_dedup.runners.redaction import hide_secrets

_PROVISION_SECONDS = 60  # to wait for the runner's answer
_INSTALLING = ("requirements_file", "setup_file", "extra_packages", "save_main_session")  # done by `boot`


class NotInstalledError(Exception):
    """The job asks for packages to be installed, which this program does not do."""


def provisioned(endpoint: str, worker_id: str) -> beam_provision_api_pb2.ProvisionInfo:
    """Returns what the runner says about the job, fetched from its provision service.

    Args:
      endpoint: HOST:PORT of the provision service.
      worker_id: the id that the runner gave this worker.
    """
    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        response: beam_provision_api_pb2.GetProvisionInfoResponse = stub.GetProvisionInfo(
            request, metadata=[("worker_id", worker_id)], timeout=_PROVISION_SECONDS, wait_for_ready=True
        )
    return response.info


def environment(
    info: beam_provision_api_pb2.ProvisionInfo, worker_id: str, control: str, logging: str
) -> dict[str, str]:
    """Returns the environment variables from which Beam's worker reads its configuration.

    Args:
      info: what the runner says about the job.
      worker_id: the id that the runner gave this worker.
      control: HOST:PORT of the control service, unless `info` names one.
      logging: HOST:PORT of the logging service, unless `info` names one.

    Raises:
      NotInstalledError: the job asks for packages to be installed.
    """
    options = json_format.MessageToDict(info.pipeline_options)
    if wanted := [name for name in _INSTALLING if _value(options, name)]:
        raise NotInstalledError(
            f"--{wanted[0]}: install it in the environment of the workers, and leave the option out"
        )
    endpoints = {
        "CONTROL": info.control_endpoint.url or control,
        "LOGGING": info.logging_endpoint.url or logging,
        "STATUS": info.status_endpoint.url,
    }
    descriptors = {
        f"{name}_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
            endpoints_pb2.ApiServiceDescriptor(url=url)
        )
        for name, url in endpoints.items()
        if url
    }
    return {
        **descriptors,
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json.dumps(options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def _value(options: Mapping[str, Any], name: str) -> Any:
    return options.get(f"beam:option:{name}:v1") or options.get(name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one worker until the runner ends it."""
    parser = argparse.ArgumentParser(prog="python -m beam_dedup.runners.worker_boot")
    for name in ("id", "control_endpoint", "logging_endpoint", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args(arguments)
    service_log.set_up(f"worker {given.id}")
    info = provisioned(given.provision_endpoint, given.id)
    try:
        variables = environment(info, given.id, given.control_endpoint, given.logging_endpoint)
    except NotInstalledError as error:
        sys.exit(f"worker {given.id}: {error}")
    os.environ.update(variables)
    hide_secrets(json_format.MessageToDict(info.pipeline_options))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


if __name__ == "__main__":
    main()
