import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import httpcore2
import pytest

from afmrl.bulk.images import fetch
from afmrl.bulk.images.fetch import Fetcher, public_address
from afmrl.bulk.images.loader import ImageLoader
from afmrl.errors import InputError


class Server:
    """A loopback server; `answers[path]` is a function of the handler."""

    def __init__(self):
        self.answers, self.requests, self.busy, self.most_busy = {}, [], 0, 0
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with lock:
                    server.requests.append((self.path, dict(self.headers)))
                    server.busy += 1
                    server.most_busy = max(server.most_busy, server.busy)
                try:
                    server.answers[self.path](self)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with lock:
                        server.busy -= 1

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, path="/a.png", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"


def answer(handler, body=b"", status=200, kind="image/png", **headers):
    handler.send_response(status)
    headers = {"Content-Type": kind, "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name, value)
    if headers.get("Content-Length") is None:
        handler.send_header("Connection", "close")
        handler.close_connection = True
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server():
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def content(image):
    return image.read_bytes()


def fetcher(**options):
    return Fetcher(**{"allow_private": True, "backoff": 0.01, "seconds": 5.0} | options)


def test_a_image_is_fetched_and_the_loader_opens_it(server, content):
    server.answers["/a.png?w=3&n=a%20b"] = lambda h: answer(h, content)
    url = server.url("/a.png?w=3&n=a%20b#part")
    with fetcher() as one:
        assert one.fetch(url) == content
        assert ImageLoader(one).load(url).size == (24, 24)
    headers = server.requests[0][1]
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Accept-Encoding"] == "identity"
    with pytest.raises(InputError, match="fetched only with --fetch"):
        ImageLoader().load(url)


def test_a_private_address_is_refused_before_anything_is_sent(server, content):
    server.answers["/a.png"] = lambda h: answer(h, content)
    with Fetcher() as one:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "①②⑦.0.0.1", "127.0.0.1."):
            with pytest.raises(
                InputError, match=r"not a public address|there is no host|was not found|is not an address"
            ):
                one.fetch(server.url(host=host))
        for host in ("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"):
            with pytest.raises(InputError, match="not a public address"):
                one.fetch(server.url(host=host))
        with pytest.raises(InputError, match="127.0.0.1, which is not a public address"):
            one.fetch(server.url())  # not a resolver's failure
    assert server.requests == []


@pytest.mark.parametrize("trick", ["2130706433", "0x7f.1", "0177.0.0.1"])
def test_numeric_tricks_lead_to_the_address_that_is_checked(server, trick):
    with Fetcher() as one, pytest.raises(InputError, match="127.0.0.1, which is not a public address"):
        one.fetch(server.url(host=trick))


def test_a_redirect_into_the_own_network_is_refused(server, content, monkeypatch):
    # the first hop is public by name and served by the loopback server; the second names loopback itself
    server.answers["/a.png"] = lambda h: answer(h, status=302, Location=server.url("/secret.png"))
    server.answers["/secret.png"] = lambda h: answer(h, content)
    monkeypatch.setattr(socket, "getaddrinfo", resolver({"shop.example": "93.184.215.14"}))
    connected = lead_to(server, monkeypatch)
    with Fetcher() as one, pytest.raises(InputError, match="127.0.0.1, which is not a public address"):
        one.fetch("http://shop.example/a.png")
    assert connected == ["93.184.215.14"]
    assert [path for path, _ in server.requests] == ["/a.png"]


def test_a_name_that_leads_into_the_own_network_is_refused(server, monkeypatch):
    names = {"inside.example": "192.168.1.7", "metadata.example": "169.254.169.254", "two.example": "8.8.8.8 10.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", resolver(names))
    connected = lead_to(server, monkeypatch)
    with Fetcher() as one:
        for host in names:
            with pytest.raises(InputError, match="not a public address"):
                one.fetch(f"http://{host}/a.png")
    assert connected == []


def test_the_checked_address_is_the_one_connected_to(server, content, monkeypatch):
    answers = iter(["93.184.215.14"] + ["127.0.0.1"] * 9)  # DNS rebinding: public when looked at, loopback afterwards
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_, **__: [(2, 1, 6, "", (next(answers), port))])
    connected = lead_to(server, monkeypatch)
    server.answers["/a.png"] = lambda h: answer(h, content)
    with Fetcher() as one:
        assert one.fetch("http://rebound.example/a.png") == content
    assert connected == ["93.184.215.14"]
    assert server.requests[0][1]["Host"] == "rebound.example"


def test_the_proxies_of_the_environment_are_not_used(server, content, monkeypatch):
    server.answers["/a.png"] = lambda h: answer(h, content)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with fetcher() as one:
        assert one.fetch(server.url()) == content


def resolver(names):
    def getaddrinfo(host, port, *_, **__):
        return [(2, 1, 6, "", (address, port)) for address in names.get(host, host).split()]

    return getaddrinfo


def lead_to(server, monkeypatch):
    """Every connection goes to the loopback server; returns the addresses that were asked for."""
    connected, real = [], socket.create_connection

    def connect(self, host, port, *_, **__):
        connected.append(host)
        return httpcore2._backends.sync.SyncStream(real(("127.0.0.1", server.port)))

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    return connected


@pytest.mark.parametrize(
    "address",
    # loopback, private, link-local, shared, test, multicast, broadcast, reserved, this network
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "240.0.0.1",
        "0.0.0.0",
        "192.0.0.8",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2002:a00:1::",
        "2002:7f00:1::1",
        "2001:0:7f00:1::1",
        "2001::1",
        "3fff::1",
        "192.88.99.1",
        "fec0::1",
        "100::1",
        "4000::1",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not public_address(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_addresses_that_are_public(address):
    assert public_address(ip_address(address))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("file:///etc/passwd", "http and https alone"),
        ("ftp://shop.example/a.png", "http and https alone"),
        ("gopher://shop.example/a", "http and https alone"),
        ("http://user:word@shop.example/a.png", "user name or password"),
        ("http://shop.example@127.0.0.1/", "user name or password"),
        ("http:///a.png", "names no host"),
        ("http://shop.example:99999/a.png", "is not an address"),
        ("http://shop.example/a\r\nHost: other", "blanks in it"),
        ("http://shop.example/a b.png", "blanks in it"),
        ("http://" + "a" * 70 + ".example/", "is not an address"),
        ("http://[::1/a.png", "is not an address"),
        ("http://shop.example/" + "a" * 9000, "too long"),
    ],
)
def test_an_address_that_is_none_is_refused(address, reason):
    with fetcher() as one, pytest.raises(InputError, match=reason):
        one.fetch(address)


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("image/jpeg", True), ("Image/PNG; q=1", True), ("text/html", False), ("application/octet-stream", False),
     (None, False)],
)  # fmt: skip
def test_only_what_says_that_it_is_a_image_is_taken(server, content, kind, taken):
    server.answers["/a.png"] = lambda h: answer(h, content, kind=kind)
    with fetcher() as one:
        if taken:
            assert one.fetch(server.url()) == content
        else:
            with pytest.raises(InputError, match="not an image"):
                one.fetch(server.url())
    assert len(server.requests) == 1


def test_a_compressed_answer_is_refused(server, content):
    server.answers["/a.png"] = lambda h: answer(h, content, Content_Encoding="gzip")
    with fetcher() as one, pytest.raises(InputError, match="gzip"):
        one.fetch(server.url())


def test_bytes_are_bounded_by_what_is_said_and_by_what_comes(server):
    sent = []

    def endless(handler):
        answer(handler, b"", Content_Length=None)
        for _ in range(1000):
            handler.wfile.write(b"x" * 10_000)
            sent.append(10_000)

    server.answers["/said.png"] = lambda h: answer(h, b"x" * 2_000)
    server.answers["/endless.png"] = endless
    server.answers["/fits.png"] = lambda h: answer(h, b"x" * 1_000)
    with fetcher(max_bytes=1_000) as one:
        assert len(one.fetch(server.url("/fits.png"))) == 1_000
        with pytest.raises(InputError, match="has 2,000 bytes, at most 1,000"):
            one.fetch(server.url("/said.png"))
        with pytest.raises(InputError, match="more than 1,000 bytes"):
            one.fetch(server.url("/endless.png"))
    assert sum(sent) < 9_000_000  # it was hung up on


@pytest.mark.parametrize("where", ["headers", "body", "silence"])
def test_the_time_is_bounded_however_slowly_it_comes(server, where):
    over = threading.Event()

    def drip(handler):
        if where == "body":
            answer(handler, b"", Content_Length=None)
        elif where == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.05):
            if where != "silence":
                handler.wfile.write(b"x")

    server.answers["/a.png"] = drip
    started = time.monotonic()
    with fetcher(seconds=0.6, retries=0) as one, pytest.raises(InputError, match="no answer within"):
        one.fetch(server.url())
    over.set()
    assert time.monotonic() - started < 2


def test_the_last_read_ends_with_the_time(server):
    over = threading.Event()

    def late(handler):
        answer(handler, b"", Content_Length=None)
        over.wait(1.2)
        handler.wfile.write(b"x")  # a read that begins now may last 0.3 s, and not 1.5 again
        over.wait(5)

    server.answers["/a.png"] = late
    started = time.monotonic()
    with fetcher(seconds=1.5, retries=0) as one, pytest.raises(InputError, match="no answer within"):
        one.fetch(server.url())
    over.set()
    assert time.monotonic() - started < 2.4


def test_a_resolver_that_hangs_costs_the_time_and_no_more(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(5))
    started = time.monotonic()
    with fetcher(seconds=0.3) as one, pytest.raises(InputError, match="no answer"):
        one.fetch("http://slow.example/a.png")
    assert time.monotonic() - started < 2
    over.set()


def test_redirects_are_followed_and_bounded(server, content):
    for number in range(1, 9):
        server.answers[f"/{number}"] = lambda h, n=number: answer(h, status=301 + n % 3, Location=f"/{n - 1}")
    server.answers["/0"] = lambda h: answer(h, content)
    server.answers["/nowhere"] = lambda h: answer(h, status=302)
    server.answers["/file"] = lambda h: answer(h, status=302, Location="file:///etc/passwd")
    server.answers["/named"] = lambda h: answer(h, status=302, Location=f"http://u:p@127.0.0.1:{server.port}/0")
    with fetcher(max_redirects=3) as one:
        assert one.fetch(server.url("/3")) == content
        with pytest.raises(InputError, match="more than 3 times"):
            one.fetch(server.url("/4"))
        for path, reason in {"/nowhere": "to nowhere", "/file": "http and https", "/named": "user name"}.items():
            with pytest.raises(InputError, match=reason):
                one.fetch(server.url(path))


def test_busy_servers_are_asked_again_and_others_not(server, content):
    def busy(handler, status=503, times=2):
        tried = sum(path == handler.path for path, _ in server.requests)
        answer(handler, content if tried > times else b"", status=status if tried <= times else 200)

    server.answers["/busy"] = busy
    server.answers["/429"] = lambda h: busy(h, 429, 1)
    server.answers["/never"] = lambda h: busy(h, 500, 99)
    server.answers["/gone"] = lambda h: answer(h, status=404)
    server.answers["/later"] = lambda h: answer(h, status=429, Retry_After="3600")
    with fetcher(retries=2) as one:
        assert one.fetch(server.url("/busy")) == content
        assert one.fetch(server.url("/429")) == content
        for path, count in {"/never": 3, "/gone": 1, "/later": 1}.items():
            with pytest.raises(InputError, match="HTTP"):
                one.fetch(server.url(path))
            assert sum(asked == path for asked, _ in server.requests) == count


def test_a_broken_connection_is_tried_again(server, content):
    def torn(handler):
        if len(server.requests) == 1:
            answer(handler, content[:10], Content_Length=str(len(content)))
            handler.close_connection = True
        else:
            answer(handler, content)

    server.answers["/a.png"] = torn
    with fetcher() as one:
        assert one.fetch(server.url()) == content
    assert len(server.requests) == 2


def test_one_host_is_not_asked_for_more_than_its_share_at_a_time(server, content):
    def slow(handler):
        time.sleep(0.05)
        answer(handler, content)

    server.answers["/a.png"] = slow
    found = []
    with fetcher(per_host=2) as one:
        threads = [threading.Thread(target=lambda: found.append(one.fetch(server.url()))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.fetch(server.url()) == content  # all turns were given back
    assert found == [content] * 8
    assert server.most_busy == 2


def test_options_are_checked():
    for option in ({"max_bytes": 0}, {"seconds": 0}, {"per_host": 0}, {"retries": -1}, {"max_redirects": -1}):
        with pytest.raises(InputError, match=next(iter(option))):
            Fetcher(**option)


def test_what_is_fetched_is_no_program(server, tmp_path):
    # Pillow would start Ghostscript for this
    server.answers["/a.eps"] = lambda h: answer(h, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with fetcher() as one, pytest.raises(InputError, match="not an image that can be read"):
        ImageLoader(one).load(server.url("/a.eps"))


def test_the_default_refuses_private_addresses(server, content):
    server.answers["/a.png"] = lambda handler: answer(handler, content)
    with Fetcher() as one, pytest.raises(InputError, match="which is not a public address"):
        one.fetch(server.url())
    assert fetch.MAX_BYTES == 20 * 2**20


@pytest.mark.parametrize(
    "to", ["http://[", "http://[::1", "//[", "http://a:b:c/", "http://[]/x", "http://\xff/", "x" * 9000]
)
def test_a_redirect_to_what_is_no_address_costs_that_image_alone(server, content, to):
    server.answers["/odd"] = lambda h: answer(h, status=302, Location=to)
    server.answers["/x" if to[0] != "x" else f"/{to}"] = lambda h: answer(h, status=404)
    server.answers["/good"] = lambda h: answer(h, content)
    with fetcher(seconds=2.0, retries=0) as one:
        with pytest.raises(InputError, match="image http"):
            one.fetch(server.url("/odd"))
        assert one.fetch(server.url("/good")) == content


def test_whatever_reading_an_image_raises_costs_that_image_alone(monkeypatch, tmp_path):
    loader = ImageLoader()
    monkeypatch.setattr(loader, "_content", lambda reference: {}[reference])
    with pytest.raises(InputError, match="KeyError"):
        loader.read("a.jpg")
