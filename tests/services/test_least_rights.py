"""Checks the policy for S3 in docs/guides/security.md on an emulator that enforces it: it suffices, and each statement is needed."""

import copy
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.app.cli_runs import ROOT, dedup_apart
from tests.services import servers
from tests.services.buckets import Bucket, amazon_bucket, files_of
from tests.services.require_service import required
from tests.services.servers import Service

pytestmark = [pytest.mark.service, pytest.mark.slow]

PAGE = (ROOT / "docs/guides/security.md").read_text("utf-8")
POLICIES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
ADMINISTRATOR = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}


@pytest.fixture
def s3() -> Iterator[Service]:
    """A server of its own: `enforce` would lock other tests out."""
    with required(servers.s3()) as service:
        yield service


def enforce(service: Service, rights: bool) -> None:
    """Makes the server check the rights of every request from now on, or of none."""
    unchecked = b"0" if rights else b"inf"  # requests
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{service.url}/moto-api/reset-auth", unchecked, headers, method="POST")
    urllib.request.urlopen(request, timeout=30).close()


def key_of_user_with(service: Service, policy: dict[str, Any]) -> tuple[str, ...]:
    """Creates a user with a policy. Returns the flags of `dedup` with the user's key."""
    client = boto3.client("iam", endpoint_url=service.url, **ADMINISTRATOR)
    client.create_user(UserName="dedup")
    client.put_user_policy(UserName="dedup", PolicyName="dedup", PolicyDocument=json.dumps(policy))
    key = client.create_access_key(UserName="dedup")["AccessKey"]
    others = [flag for flag in service.flags if not flag.startswith(("--s3_access", "--s3_secret"))]
    return (
        *others,
        f"--s3_access_key_id={key['AccessKeyId']}",
        f"--s3_secret_access_key={key['SecretAccessKey']}",
    )


def run(service: Service, policy: dict[str, Any], samples: Path) -> tuple[int, str, Bucket]:
    """Runs a batch from one bucket to another with a policy. Returns the exit code, the errors, and the output bucket."""
    incoming, out = amazon_bucket(service), amazon_bucket(service)
    incoming.fill(files_of(samples / "formats"))
    names = {"crawl-in": incoming.uri.removeprefix("s3://"), "crawl-out": out.uri.removeprefix("s3://")}
    text = re.sub("|".join(names), lambda match: names[match[0]], json.dumps(_for_the_emulator(policy)))
    flags = key_of_user_with(service, json.loads(text))
    enforce(service, True)
    outputs = (
        "-d",
        f"{out.uri}/unique",
        "-s",
        "--records",
        f"{out.uri}/records/",
        "-o",
        f"{out.uri}/groups.json",
    )
    done = dedup_apart(
        "-n",
        "-i",
        incoming.uri,
        *outputs,
        "--counts",
        f"{out.uri}/counts.json",
        *flags,
        env=out.environment(),
    )
    return done.returncode, done.stderr, out


def _for_the_emulator(policy: dict[str, Any]) -> dict[str, Any]:
    """Returns a policy with which the emulator does what Amazon does with the given one.

    A request that deletes several objects needs the right to each of them; the emulator looks for a right to the bucket.
    """
    adapted = copy.deepcopy(policy)
    for statement in adapted["Statement"]:
        if "s3:DeleteObject" in statement["Action"]:
            statement["Resource"] = [statement["Resource"], statement["Resource"].removesuffix("/*")]
    return adapted


def test_policy_of_the_page_suffices(s3: Service, samples: Path) -> None:
    [policy] = POLICIES
    code, errors, out = run(s3, policy, samples)
    assert code == 0, errors
    enforce(s3, False)
    assert {name.split("/")[0] for name in out.files("")} == {
        "unique",
        "records",
        "groups.json",
        "counts.json",
    }


@pytest.mark.parametrize("left_out", range(len(POLICIES[0]["Statement"])))
def test_each_statement_is_needed(left_out: int, s3: Service, samples: Path) -> None:
    [policy] = POLICIES
    statements = [one for number, one in enumerate(policy["Statement"]) if number != left_out]
    code, errors, _ = run(s3, {**policy, "Statement": statements}, samples)
    assert code != 0, errors
