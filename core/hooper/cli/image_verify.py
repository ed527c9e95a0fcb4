"""`hooper image verify`: the signatures of an image in a registry, for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference
from hooper.cli.command import command
from hooper.cli.credentials import registry_auth
from hooper.cli.flags import text, values
from hooper.cli.session import Session


@command("verify", "IMAGE")
@values("--key", "keys", help="File of a public key in PEM (may be repeated)", metavar="file")
@values(
    "--identity", "identities", help="Pattern of repositories that a signature may be for (default the image's own)"
)
@text("--format", help='"json" prints all that was found')
@click.argument("image")
@click.pass_obj
def verify(session: Session, image: str, keys: tuple[str, ...], identities: tuple[str, ...], format: str) -> int:
    """Verify the cosign signatures of an image in its registry."""
    if not keys:
        raise InvalidArgument(f"cannot verify {image}", "no key is given", "Give a public key: --key cosign.pub")
    if format not in ("", "json"):
        raise InvalidArgument(f'unknown format "{format}"', remedy="It has json only.")
    reference = Reference.parse(image)
    wish = {"Keys": [_pem(path) for path in keys], "Identities": list(identities)}
    found = session.client.call(
        "POST", f"/hooper/images/{image}/verify", body=wish, headers=registry_auth(reference.host)
    )
    if format:
        print(json.dumps(found, indent=4))
    else:
        for line in lines(found):
            print(line)
    return 0 if found["Good"] else 1


def _pem(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else "it is not a text"
        raise InvalidArgument(f"cannot read the key {path}", why, "Give the file of a public key in PEM.") from error


def lines(found: Mapping[str, Any]) -> Sequence[str]:
    """What POST /hooper/images/NAME/verify has answered, line by line; the last one is the verdict."""
    shown = [f"{found['Reference']}", f"  {found['Digest']}"]
    good = [finding for finding in found["Findings"] if finding["Good"]]
    for finding in found["Findings"]:
        shown.append(f"{'good' if finding['Good'] else 'bad '}  {finding['Signature']}")
        details = [finding["Reason"]] if finding["Reason"] else []
        details += [f"by the key {finding['Key']}"] if finding["Key"] else []
        details += [f"for {finding['Identity']}"] if finding["Identity"] else []
        details += [f"it signs {finding['Digest']}"] if finding["Digest"] else []
        shown += [f"      {detail}" for detail in (*details, *finding["Notes"])]
    if good:
        shown.append(f"Verified: {len(good)} of {len(found['Findings'])} signatures are good.")
    elif found["Findings"]:
        shown.append(f"Not verified: none of {len(found['Findings'])} signatures is good.")
    else:
        shown.append("Not verified: it has no signatures.")
    return shown
