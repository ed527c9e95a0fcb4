"""`hooper login` and `hooper logout`."""

from __future__ import annotations

import sys

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import credentials
from hooper.cli.command import command
from hooper.cli.errors import warn
from hooper.cli.flags import flag, text
from hooper.cli.session import Session


@command("login", "[SERVER]")
@text("-p", "--password", help="Password or Personal Access Token (PAT)")
@flag("--password-stdin", help="Take the Password or Personal Access Token (PAT) from stdin")
@text("-u", "--username", help="Username")
@click.argument("server", required=False, default="")
@click.pass_obj
def login(session: Session, server: str, username: str, password: str, password_stdin: bool) -> None:
    """Authenticate to a registry."""
    server = server.removeprefix("https://").removeprefix("http://").rstrip("/")
    if password and password_stdin:
        raise InvalidArgument("--password and --password-stdin exclude each other")
    if password_stdin and not username:
        raise InvalidArgument("--password-stdin needs --username", remedy="For example: -u me --password-stdin <token")
    if password:
        warn("a password on the command line is seen by others; use --password-stdin")
    secret = sys.stdin.read().rstrip("\r\n") if password_stdin else password
    user, secret = _ask(server, username, secret)
    request = {"username": user, "password": secret, "serveraddress": credentials.server_key(server)}
    answer = session.client.post("/auth", request) or {}
    if token := answer.get("IdentityToken"):
        request = {"identitytoken": token, "username": user, "serveraddress": request["serveraddress"]}
    place = credentials.store(server, request)
    print(f"{answer.get('Status') or 'Login Succeeded'}\nThe credentials are in {place}")


def _ask(server: str, user: str, secret: str) -> tuple[str, str]:
    known = credentials.load(server) or {}
    if not user and not secret and known.get("password"):
        return known["username"], known["password"]
    if (not user or not secret) and not sys.stdin.isatty():
        raise InvalidArgument(
            "cannot ask for credentials without a terminal", remedy="Give --username and --password-stdin."
        )
    if not user:
        user = input("Username: ")
    if not secret:
        import getpass

        secret = getpass.getpass("Password: ")
    if not (user and secret):
        raise InvalidArgument("username and password are required")
    return user, secret


@command("logout", "[SERVER]")
@click.argument("server", required=False, default="")
def logout(server: str) -> None:
    """Log out from a registry."""
    key = credentials.server_key(server)
    if credentials.erase(server):
        print(f"Removing login credentials for {key}")
    else:
        print(f"Not logged in to {key}")
