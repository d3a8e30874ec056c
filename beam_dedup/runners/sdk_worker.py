"""A worker process of the engine for this machine: Beam's own, but quiet."""

import json
import logging
import os
import sys

from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.runners.redaction import hide_secrets

if __name__ == "__main__":
    if not os.environ.get(DEBUG_VARIABLE):
        # What fails is sent to the parent, which tells it in one sentence.
        logging.disable(logging.CRITICAL)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for the life of the process
    hide_secrets(json.loads(os.environ.get("PIPELINE_OPTIONS") or "{}"))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
