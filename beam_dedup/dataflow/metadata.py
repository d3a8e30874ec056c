"""Writes the metadata of the Dataflow flex template: its parameters, from the option table.

python -m beam_dedup.dataflow.metadata > templates/dataflow/metadata.json
"""

import json
import re
import sys
from typing import Any

from beam_dedup.core.preference import WITH_VALUE, WORDS
from beam_dedup.dataflow import launcher
from beam_dedup.options import checks
from beam_dedup.options.option import SIZE, Option, byte_size, number, whole_number
from beam_dedup.options.option_table import OPTIONS

_BUCKET_PATH = r"(gs|s3)://[^/]+(/.*)?"
_INPUTS = r"(gs|s3)://[^\n]+"  # one line of inputs
_SPLIT = rf"[\w.-]+={_INPUTS}"
_RULE = rf"({'|'.join(WORDS)}|({'|'.join(WITH_VALUE)}):[^\n]+)"
_LINES = r"[^\n]+(\n[^\n]+)*\n?"
# The patterns of values that the parser accepts as any text.
_PATTERNS = {
    "dump_dir": rf"{_INPUTS}(\n{_INPUTS})*\n?",
    "json_metadata": _BUCKET_PATH,
    "reference": _BUCKET_PATH,
    "allow": rf"{_INPUTS}(\n{_INPUTS})*\n?",
    "keep": rf"{_RULE}([,\n]({_RULE}|[A-Za-z0-9]+))*\n?",
    "protect": r"[^\n]+(\n[^\n]+)*\n?",
    "exclude": _LINES,
    "include": _LINES,
    "path_field": r"[^\n]+",
    "image_column": r"[^\n]+",
    "split": rf"{_SPLIT}(\n{_SPLIT})*\n?",
    "assign": r"[\w.,=/-]+",
    "leak": r"(report|fail|drop_from=[\w.-]+)",
    "output_dir": _BUCKET_PATH,
    "output_json": _BUCKET_PATH,
    "records": _BUCKET_PATH,
    "counts": _BUCKET_PATH,
    "drop_list": _BUCKET_PATH,
    "pairs": _BUCKET_PATH,
    "subscription": checks.SUBSCRIPTION.pattern,
    "verdict_topic": checks.TOPIC.pattern,
    "remember": checks.DURATION.pattern,
    "window": checks.DURATION.pattern,
}
_TYPES = {"subscription": "PUBSUB_SUBSCRIPTION", "verdict_topic": "PUBSUB_TOPIC"}
_WORKER_IMAGE = {
    "name": launcher.IMAGE,
    "label": "Worker image",
    "helpText": "The container image that workers run. Name the image of this template, which contains the program and its "
    "dependencies.",
    "isOptional": False,
    "paramType": "TEXT",
    "regexes": [r"^\S+$"],
}


def metadata() -> dict[str, Any]:
    """Returns the content of the metadata file, with the keys that Dataflow defines."""
    return {
        "name": "Deduplicate images",
        "description": "Finds duplicate images: equal files, and pictures that look the same. Set dump_dir or json_metadata for a "
        "batch job; set subscription, or watch and dump_dir, for a streaming job.",
        "streaming": True,
        "supportsExactlyOnce": True,
        "supportsAtLeastOnce": False,
        "parameters": [_WORKER_IMAGE, *map(_parameter, launcher.parameters().values())],
    }


def _parameter(option: Option) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": option.name,
        "label": option.name.replace("_", " ").capitalize(),
        "helpText": _help(option),
        "isOptional": True,
        "paramType": _type(option),
        "regexes": [f"^{_pattern(option)}$"],
    }
    if option.choices:
        parameter["enumOptions"] = [{"value": choice} for choice in option.choices]
    if option.is_switch:
        parameter["defaultValue"] = "false"
    elif option.unset:
        parameter["defaultValue"] = option.unset
    return parameter


def _type(option: Option) -> str:
    if option.is_switch:
        return "BOOLEAN"
    if option.choices:
        return "ENUM"
    if option.convert in (whole_number, number):
        return "NUMBER"
    return _TYPES.get(option.name, "TEXT")


def _pattern(option: Option) -> str:
    if option.is_switch:
        return "(true|false)"
    if option.choices:
        return f"({'|'.join(option.choices)})"
    if option.convert is whole_number:
        return r"\d+"
    if option.convert is number:
        return r"\d+(\.\d+)?"
    if option.convert is byte_size:
        return SIZE.pattern
    return _PATTERNS[option.name]


def _help(option: Option) -> str:
    """The help and the details of an option as plain text, a line for each paragraph; parameters are named instead of flags."""
    text = "\n".join([option.help, *option.paragraphs])
    for other in OPTIONS:
        for flag in other.flags:
            text = re.sub(rf"(?<![\w-]){flag}(?!\w)", other.name, text)
    text = re.sub(r"(?<![\w-])--(?=[a-z])", "", text)  # the flags of Beam
    if option.is_repeatable:
        text += "\nSeparate several values by commas or line breaks."
    return text.replace("`", "")


if __name__ == "__main__":
    json.dump(metadata(), sys.stdout, indent=2, ensure_ascii=False)
    print()
