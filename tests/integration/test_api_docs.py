from __future__ import annotations

import re

from tests.support.api import Api


def test_the_docs_page_needs_nothing_from_elsewhere(api: Api) -> None:
    page = api.http.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 3
    assert [api.http.get(address).status_code for address in addresses] == [200] * len(addresses)
    assert "http" not in " ".join(addresses)
