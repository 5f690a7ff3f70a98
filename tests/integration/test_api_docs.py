from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from tests.support.api import Api


def test_the_docs_page_needs_nothing_from_elsewhere(api: Api) -> None:
    page = api.http.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 3
    assert [api.http.get(address).status_code for address in addresses] == [200] * len(addresses)
    assert "http" not in " ".join(addresses)


def test_of_scripts_in_the_docs_page_only_its_own_may_run(api: Api) -> None:
    page = api.http.get("/docs")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert policy["script-src"] == " ".join(["'self'", *hashes])
    assert (len(scripts), policy["default-src"], policy["frame-ancestors"]) == (1, "'self'", "'none'")
