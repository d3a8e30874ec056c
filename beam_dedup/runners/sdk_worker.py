"""Runs a worker process of the local runner: Beam's own worker, with its log and stderr switched off."""

import json
import logging
import os
import sys

from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.runners.redaction import hide_secrets

if __name__ == "__main__":
    if not os.environ.get(DEBUG_VARIABLE):
        # Failures are sent to the parent process, which reports them in one sentence.
        logging.disable(logging.CRITICAL)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  open until the process ends
    hide_secrets(json.loads(os.environ.get("PIPELINE_OPTIONS") or "{}"))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
