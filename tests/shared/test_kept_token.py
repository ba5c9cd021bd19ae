"""When a token is fetched, with a clock that the tests set."""

import concurrent.futures
import threading
import time

import pytest

from shared.kept_token import KeptToken, Token, TokenError


class Server:
    """Hands out tokens as a test asks for, and counts them."""

    def __init__(self):
        self.now, self.lifetime, self.fetches = 1_000_000.0, 3600, 0
        self.error = None
        self.asked, self.go_on = threading.Semaphore(0), threading.Event()
        self.go_on.set()

    def clock(self):
        return self.now

    def fetch(self):
        self.fetches += 1
        token = Token(f"token {self.fetches}", {}, self.now + self.lifetime)
        error, go_on = self.error, self.go_on
        self.asked.release()
        assert go_on.wait(30)
        if error:
            raise error
        return token


@pytest.fixture
def server():
    server = Server()
    yield server
    server.go_on.set()


@pytest.fixture
def kept(server):
    return KeptToken(server.fetch, server.clock)


def until(holds):
    """Waits until a thread has done something."""
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("not within 30 s")


def test_80_threads_on_a_cold_start_fetch_once(kept, server):
    start = threading.Barrier(80)

    def get(_):
        start.wait(30)
        return kept.get(30).text

    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        assert set(pool.map(get, range(80))) == {"token 1"}
    assert server.fetches == 1


def test_a_token_is_kept_until_shortly_before_it_expires(kept, server):
    for second in range(0, 3600 - 225, 25):
        server.now = 1_000_000 + second
        assert kept.get().text == "token 1"
    assert server.fetches == 1
    server.now = 1_000_000 + 3600 - 225
    until(lambda: kept.get().text == "token 2")
    assert server.fetches == 2


def test_no_call_waits_for_a_renewal(kept, server):
    kept.get()
    assert server.asked.acquire(timeout=30)
    server.now += 3600 - 200
    server.go_on = threading.Event()
    for _ in range(10):
        assert kept.get(0).text == "token 1"
    assert server.asked.acquire(timeout=30)
    assert server.fetches == 2
    server.go_on.set()
    until(lambda: kept.get().text == "token 2")


def test_a_server_that_repeats_an_old_token_is_not_asked_by_every_call(kept, server):
    server.lifetime = 100  # due for renewal from the beginning
    for _ in range(50):
        kept.get()
    assert server.fetches == 1


def test_an_expired_token_is_not_used(kept, server):
    kept.get()
    server.now += 3600 - 9
    assert kept.get().text == "token 2"


def test_the_clock_is_that_of_the_wall():
    fetches = []

    def fetch():
        fetches.append(1)
        return Token("expired as it comes", {}, time.time())

    kept = KeptToken(fetch)
    kept.get(30)
    kept.get(30)
    assert len(fetches) == 2


def test_a_failed_renewal_is_logged_and_tried_again_after_a_while(kept, server, caplog):
    kept.get()
    server.now += 3600 - 200
    server.error = TokenError("no token today")
    assert kept.get(0).text == "token 1"
    until(lambda: "no token today" in caplog.text)
    for _ in range(10):
        assert kept.get(0).text == "token 1"
    assert server.fetches == 2
    [record] = [r for r in caplog.records if "no token today" in r.message]
    assert record.levelname == "WARNING"
    assert record.message == "A token could not be fetched in the background: no token today"
    server.error = None
    server.now += 16
    until(lambda: kept.get().text == "token 3")


def test_an_error_of_the_first_fetch_is_the_caller_s_and_the_next_call_asks_again(kept, server):
    server.error = TokenError("no token today")
    with pytest.raises(TokenError, match="no token today"):
        kept.get()
    server.error = None
    assert kept.get().text == "token 2"


def test_a_fetch_that_hangs_is_given_up_on_and_does_not_block_the_next(kept, server):
    server.go_on = threading.Event()
    with pytest.raises(TimeoutError):
        kept.get(0.01)
    server.now += 5
    hanging, server.go_on = server.go_on, threading.Event()
    server.go_on.set()
    assert kept.get().text == "token 2"
    hanging.set()


def test_a_renewal_that_was_frozen_with_its_instance_does_no_harm(kept, server):
    """Between two requests an instance may have no CPU, so its threads can pause for hours."""
    kept.get()
    server.now += 3600 - 200
    server.go_on = frozen = threading.Event()
    assert kept.get(0).text == "token 1"
    for _ in range(2):
        assert server.asked.acquire(timeout=30)
    server.now += 7200  # running again: the kept token has expired, and the fetch was never answered
    server.go_on = threading.Event()
    server.go_on.set()
    assert kept.get().text == "token 3"
    frozen.set()  # the late answer is an expired token
    assert kept.get().text in ("token 3", "token 4")
    assert kept.newest.expires > server.now
