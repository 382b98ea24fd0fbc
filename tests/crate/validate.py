"""Validate an RO-Crate without a network: `python validate.py CRATE PROFILE REPORT`, in an environment of its own.

The validator asks for RO-Crate's JSON-LD context at its address. Its cache of such answers is filled here with the
terms in `context.json`, whose definitions are those of RO-Crate 1.1.3 (CC0); a crate with another term is not valid.
"""

import io
import sys
import tempfile
from pathlib import Path

import requests
import urllib3
from requests_cache import CachedSession
from rocrate_validator.cli.main import cli

ADDRESS = "https://w3id.org/ro/crate/1.1/context"


def remember(cache: str) -> None:
    """Put the answer to a request for the context into a cache."""
    content = Path(__file__).with_name("context.json").read_bytes()
    headers = {"Content-Type": "application/ld+json"}
    response = requests.Response()
    response.status_code, response.url, response.encoding = 200, ADDRESS, "utf-8"
    response.headers.update(headers)
    response.request = requests.Request("GET", ADDRESS).prepare()
    response._content = content
    response.raw = urllib3.HTTPResponse(
        io.BytesIO(content), headers, 200, preload_content=False, request_method="GET", request_url=ADDRESS
    )
    CachedSession(cache, backend="sqlite", expire_after=-1).cache.save_response(response)


if __name__ == "__main__":
    crate, profile, report = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        remember(f"{folder}/cache")
        words = ["--disable-color", "-y", "validate", crate, "-p", profile, "-l", "required", "--no-paging"]
        cli([*words, "--offline", "--cache-path", f"{folder}/cache", "-f", "json", "-o", report])
