"""Writes the software bill of materials (SBOM) of an environment: all Python packages that are installed in it.

    ENVIRONMENT/bin/python sbom.py >sbom.cdx.json

The format is CycloneDX 1.5, JSON. The same environment always gives the same file. The packages of the operating system in an
image are not in it.
"""

import importlib.metadata
import json
import re
import sys
import uuid
from importlib.metadata import Distribution
from typing import Any

from packaging.requirements import Requirement

PROGRAM = "beam-dedup"
_LONGEST_NAME = 100  # letters; a longer "License" field is the text of the licence


def bill() -> dict[str, Any]:
    """Returns the bill of the environment that runs this program."""
    installed = {_normalised(one.metadata["Name"]): one for one in importlib.metadata.distributions()}
    components = {name: _component(name, one) for name, one in sorted(installed.items())}
    made = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": "",
        "version": 1,
        "metadata": {"component": {**components.pop(PROGRAM), "type": "application"}},
        "components": list(components.values()),
        "dependencies": [
            {"ref": _reference(name, one), "dependsOn": _needed(one, installed)}
            for name, one in sorted(installed.items())
        ],
    }
    made["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(made)).urn
    return made


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _reference(name: str, one: Distribution) -> str:
    """Returns the package URL of a distribution."""
    return f"pkg:pypi/{name}@{one.version}"


def _component(name: str, one: Distribution) -> dict[str, Any]:
    reference = _reference(name, one)
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": one.version,
        "purl": reference,
    }
    if licences := _licences(one):
        made["licenses"] = licences
    return made


def _licences(one: Distribution) -> list[dict[str, Any]]:
    """Returns what a distribution declares: an SPDX expression, else its classifiers, else a short name."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    prefix = "License :: "
    classifiers = [text for text in one.metadata.get_all("Classifier") or () if text.startswith(prefix)]
    names = [text.rpartition(" :: ")[2] for text in classifiers]
    if not names and 0 < len(name := one.metadata.get("License") or "") <= _LONGEST_NAME:
        names = [name]
    return [{"license": {"name": name}} for name in names]


def _needed(one: Distribution, installed: dict[str, Distribution]) -> list[str]:
    """Returns the references of the installed distributions that one requires, without its extras."""
    needed = set()
    for text in one.requires or ():
        requirement = Requirement(text)
        name = _normalised(requirement.name)
        if name in installed and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            needed.add(_reference(name, installed[name]))
    return sorted(needed)


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1, ensure_ascii=True)
    sys.stdout.write("\n")
