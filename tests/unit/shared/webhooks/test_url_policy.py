"""Where webhooks may point: by the text of the URL, and by every address that a name stands for."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme

from nightshift.errors import InvalidRequest
from shared.webhooks import url_policy
from tests.support.receiver import receiving, reply
from tests.support.redis import free_port
from worker.maintenance import http_delivery

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2002:808:808::", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    assert url_policy.refused_address(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    assert url_policy.refused_address(ip_address(address)) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("javascript:alert(1)", "https://"),
        ("//example.com/", "https://"),
        ("example.com/hook", "https://"),
        ("", "https://"),
        ("https://", "no host"),
        ("https:///hook", "no host"),
        ("https://user:secret@example.com/", "user or password"),
        ("https://user@example.com/", "user or password"),
        ("https://example.com/#hook", "fragment"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:0/", "must be a URL"),
        ("https://example.com:99999/", "must be a URL"),
        ("https://example.com:port/", "must be a URL"),
        ("https://exa mple.com/", "white space"),
        ("https://example.com/\nHost: other", "white space"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("https://example.com/\x00", "white space"),
        ("https://example.com/" + "x" * 2000, "longer"),
        ("https://localhost/", "the server itself"),
        ("https://LOCALHOST./", "the server itself"),
        ("https://api.localhost/", "the server itself"),
        ("https://127.0.0.1/", "not a public"),
        ("https://127.1/", "127.0.0.1 is not a public"),
        ("https://2130706433/", "127.0.0.1 is not a public"),
        ("https://0x7f.1/", "127.0.0.1 is not a public"),
        ("https://0177.0.0.1/", "must be a URL"),
        ("https://[::1]/", "not a public"),
        ("https://[::ffff:10.0.0.1]/", "not a public"),
        ("https://[fe80::1%25eth0]/", "not a public"),
        ("https://169.254.169.254/latest/meta-data/", "not a public"),
        ("https://１２７.0.0.1/", "must be a URL"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        url_policy.check_url(url, allow_private=False)
    assert caught.value.errors[0].loc == ("url",)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://example.com/hook?a=b%20c", "https://example.com/hook?a=b%20c"),
        ("https://EXAMPLE.com:443/", "https://example.com/"),
        ("https://bücher.example:8443/x", "https://xn--bcher-kva.example:8443/x"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
    ],
)
def test_urls_that_are_accepted(url: str, normal: str) -> None:
    assert url_policy.check_url(url, allow_private=False) == normal


@pytest.mark.parametrize("url", ["http://localhost:25/", "http://10.0.0.1/x", "https://[::1]:8080/"])
def test_a_setting_allows_private_ones(url: str) -> None:
    assert url_policy.check_url(url, allow_private=True) == url


# -- one attempt at sending -----------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names stand for, and what was looked up."""
    book: dict[str, list[str]] = {"asked": []}

    def look_up(host: str, port: int, *args: Any, **kind: Any) -> list[Any]:
        if host.replace(".", "").isdigit():
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        book["asked"].append(host)
        if host not in book:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in book[host]]

    monkeypatch.setattr(http_delivery.socket, "getaddrinfo", look_up)
    return book


def post(url: str, *, seconds: float = 60.0, allow_private: bool = True) -> Any:
    return http_delivery.post(url, {"x-test": "1"}, b"{}", seconds=seconds, allow_private=allow_private)


def test_certificates_are_not_read_for_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a tenth of a second of CPU: receivers that fail would keep a core busy."""
    read: list[str] = []
    fresh = http_delivery.httpcore.default_ssl_context
    monkeypatch.setattr(http_delivery.httpcore, "default_ssl_context", lambda: read.append("read") or fresh())
    http_delivery._tls.cache_clear()
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: refused
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        assert all(post(f"http://{where}/").error for _ in range(3))
        assert read == []
        assert all(post(f"https://{where}/").error for _ in range(3))
    assert read == ["read"]


def test_a_name_that_stands_for_a_private_address_is_refused(names: dict[str, list[str]]) -> None:
    with receiving() as receiver:
        for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"]):
            names["innocent.example"] = addresses
            answer = post(f"http://innocent.example:{receiver.port}/", allow_private=False)
            assert "not a public address" in answer.error
        assert receiver.received == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(names: dict[str, list[str]]) -> None:
    """The name is looked up once; nothing can change what it stands for between check and connection."""
    with receiving() as receiver:
        names["hooks.example"] = ["127.0.0.1"]
        assert post(f"http://hooks.example:{receiver.port}/a").error is None
        assert names["asked"] == ["hooks.example"]
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_the_second_address_is_tried(names: dict[str, list[str]]) -> None:
    with receiving() as receiver:
        names["hooks.example"] = ["127.0.0.2", "127.0.0.1"]  # no server listens at the first
        assert post(f"http://hooks.example:{receiver.port}/").error is None


def test_what_cannot_be_reached(names: dict[str, list[str]]) -> None:
    assert "cannot be resolved" in post("http://nowhere.example/").error
    names["closed.example"] = ["127.0.0.1"]
    assert "refused" in post(f"http://closed.example:{free_port()}/").error


def test_redirects_are_answers() -> None:
    with receiving() as inside, receiving() as receiver:
        receiver.answer = lambda number, handler: reply(handler, 307, location=inside.url)
        answer = post(receiver.url)
        assert (answer.status, "redirects are not followed" in answer.error) == (307, True)
        assert inside.received == []


def answer_of(answer: Any, seconds: float = 60.0) -> Any:
    with receiving() as receiver:
        receiver.answer = answer
        return post(receiver.url, seconds=seconds)


def test_an_answer_is_read_to_a_bound_and_shown_as_text() -> None:
    def endless(number: int, handler: Any) -> None:
        handler.send_response(500)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"no\x1b[31m way\n" * 1000)
        except OSError:
            pass

    answer = answer_of(endless)
    assert answer.status == 500
    assert answer.error.startswith("HTTP 500: no [31m way no")
    assert len(answer.error) < 300


def test_a_receiver_that_says_nothing_or_drips_is_left_at_the_deadline() -> None:
    def drip(number: int, handler: Any) -> None:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass

    assert answer_of(drip, seconds=0.3).error == "no answer within 0.3 s"
    with receiving() as silent:
        silent.answer = silent.hang
        assert post(silent.url, seconds=0.2).error == "no answer within 0.2 s"


def test_what_is_not_http_and_what_is_not_tls() -> None:
    def garbage(number: int, handler: Any) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    assert answer_of(garbage).error
    with receiving() as receiver:
        answer = post(receiver.url.replace("http://", "https://"))
        assert "SSL" in answer.error
        assert receiver.received == []


def test_gone_is_told_apart() -> None:
    answer = answer_of(lambda number, handler: reply(handler, 410, b"moved away"))
    assert (answer.gone, answer.error) == (True, "HTTP 410: moved away")


def test_the_certificate_must_be_the_names_though_the_connection_goes_to_an_address(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    names |= {"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    with receiving(context) as receiver:
        assert "certificate" in post(f"https://hooks.example:{receiver.port}/").error  # its issuer is not trusted
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert post(f"https://hooks.example:{receiver.port}/").error is None
        assert "certificate is not valid for 'other.example'" in post(f"https://other.example:{receiver.port}/").error
        assert len(receiver.received) == 1
