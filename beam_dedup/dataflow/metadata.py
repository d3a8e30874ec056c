"""What a Dataflow flex template says of its parameters, from the options themselves.

python -m beam_dedup.dataflow.metadata > templates/dataflow/metadata.json
"""

import argparse
import json
import re
import sys
from typing import Any

from beam_dedup.dataflow import launcher
from beam_dedup.options import checks, parser

_BUCKET_PATH = r"(gs|s3)://[^/]+(/.*)?"
_INPUTS = r"(gs|s3)://[^\n]+"  # a line of them
# Of options whose values argparse takes as they come.
_PATTERNS = {
    "dump_dir": rf"{_INPUTS}(\n{_INPUTS})*\n?",
    "json_metadata": _BUCKET_PATH,
    "reference": _BUCKET_PATH,
    "output_dir": _BUCKET_PATH,
    "output_json": _BUCKET_PATH,
    "records": _BUCKET_PATH,
    "counts": _BUCKET_PATH,
    "subscription": checks.SUBSCRIPTION.pattern,
    "verdict_topic": checks.TOPIC.pattern,
    "remember": checks.DURATION.pattern,
    "window": checks.DURATION.pattern,
}
_TYPES = {"subscription": "PUBSUB_SUBSCRIPTION", "verdict_topic": "PUBSUB_TOPIC"}
_WORKER_IMAGE = {
    "name": launcher.IMAGE,
    "label": "Image of workers",
    "helpText": "The image that workers run: that of this template, which holds the program and all it needs.",
    "isOptional": False,
    "paramType": "TEXT",
    "regexes": [r"^\S+$"],
}


def metadata() -> dict[str, Any]:
    """The content of the file, in the words of Dataflow."""
    return {
        "name": "Deduplicate images",
        "description": "Takes the duplicates out of image collections: equal files, and pictures that look the same. "
        "dump_dir or json_metadata: a job with an end. subscription, or watch with dump_dir: one that stays.",
        "streaming": True,
        "supportsExactlyOnce": True,
        "supportsAtLeastOnce": False,
        "parameters": [
            _WORKER_IMAGE,
            *(_parameter(name, action) for name, action in launcher.parameters().items()),
        ],
    }


def _parameter(name: str, action: argparse.Action) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": _help(action),
        "isOptional": True,
        "paramType": _type(action),
    }
    if pattern := _pattern(action):
        made["regexes"] = [f"^{pattern}$"]
    if action.choices:
        made["enumOptions"] = [{"value": str(one)} for one in action.choices]
    if action.nargs == 0:
        made["defaultValue"] = "false"
    elif isinstance(action.default, str) and action.default:
        made["defaultValue"] = action.default
    return made


def _type(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "BOOLEAN"
    if action.choices:
        return "ENUM"
    if action.type in (parser.whole_number, parser.number):
        return "NUMBER"
    return _TYPES.get(action.dest, "TEXT")


def _pattern(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "(true|false)"
    if action.choices:
        return f"({'|'.join(map(str, action.choices))})"
    if action.type is parser.whole_number:
        return r"\d+"
    if action.type is parser.number:
        return r"\d+(\.\d+)?"
    return _PATTERNS[action.dest]


def _help(action: argparse.Action) -> str:
    """Its help, with the names of parameters for those of flags."""
    text = action.help or ""
    for other in parser.parser()._actions:
        for flag in other.option_strings:
            text = re.sub(rf"(?<![\w-]){flag}(?!\w)", other.dest, text)
    if launcher.is_repeated(action):
        text = text.replace("Can be given several times", "Several are separated by commas or line breaks")
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    json.dump(metadata(), sys.stdout, indent=2, ensure_ascii=False)
    print()
