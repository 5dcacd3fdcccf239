"""The policy server: openpi's protocol, company, bad clients, limits."""

import concurrent.futures
import contextlib
import logging
import os
import pickle
import socket
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from websockets import exceptions
from websockets.sync import client

from data_pipeline import errors, wire
from drivemoe_jax import serve
from tests import fake_policy


@contextlib.contextmanager
def serving(policy=None, **kw):
  """(policy, port) of a running server."""
  policy = policy or fake_policy.FakePolicy()
  limits = serve.Limits(**kw.pop("limits", {}))
  with serve.in_background(serve.Server(policy, limits=limits, **kw)) as port:
    yield policy, port


@contextlib.contextmanager
def connected(port, key=None):
  """(connection, metadata) as openpi's client makes them."""
  headers = {"Authorization": f"Api-Key {key}"} if key else None
  with client.connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None,
                      additional_headers=headers, proxy=None,
                      close_timeout=1) as connection:
    yield connection, wire.unpack(connection.recv(timeout=10))


def ask(connection, message):
  """Sends bytes; returns the answer, a text where it is an error."""
  connection.send(message)
  answer = connection.recv(timeout=20)
  return answer if isinstance(answer, str) else wire.unpack(answer)


def observe(policy, step):
  return wire.pack(policy.example(step))


def test_metadata_first_then_plans():
  with serving() as (policy, port), connected(port) as (link, metadata):
    assert metadata == policy.metadata
    for step in (11, 13):
      answer = ask(link, observe(policy, step))
      wanted = policy.plan([policy.example(step)])[0]
      np.testing.assert_array_equal(answer["actions"], wanted["actions"])
      assert set(answer["server_timing"]) == {"queue_ms", "infer_ms", "batch"}


def test_it_tells_that_it_is_up():
  with serving(api_key="k") as (_, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
      assert (answer.status, answer.read()) == (200, b"OK\n")


@pytest.mark.parametrize("key, let_in", [
    ("right", True), ("wrong", False), ("righ", False), (None, False)])
def test_a_key_is_asked_for(key, let_in):
  with serving(api_key="right") as (policy, port):
    if let_in:
      with connected(port, key) as (link, _):
        assert "actions" in ask(link, observe(policy, 1))
    else:
      with pytest.raises(exceptions.InvalidStatus, match="401"), connected(
          port, key):
        pass


def test_bad_messages_are_answered_and_lived_through():
  bad = [b"", b"\xc1", os.urandom(50), pickle.dumps(np.ones(3)),
         wire.pack({"a": 1}), wire.pack([1]), "text", "{}"]
  with serving() as (policy, port), connected(port) as (link, _):
    good = observe(policy, 3)
    for message in [*bad, good[:-1], good + good, good[:100]]:
      assert ask(link, message).startswith("E-DATA: ")
    assert ask(link, good)["actions"][0, 0] == 3
    assert policy.batches == [[3]]


def test_plans_of_a_client_that_dies_are_counted(caplog):
  caplog.set_level(logging.INFO, "drivemoe_jax.serve")
  with serving() as (policy, port):
    with connected(port) as (link, _):
      for step in (1, 2):
        ask(link, observe(policy, step))
      link.socket.shutdown(socket.SHUT_RDWR)  # no farewell
    wait = time.monotonic() + 10
    while "left" not in caplog.text and time.monotonic() < wait:
      time.sleep(0.05)
  assert "left after 2 plans" in caplog.text


def test_messages_that_are_too_long_end_their_connection_only():
  with serving(limits={"message_bytes": 10_000}) as (policy, port), connected(
      port) as (other, _):
    with connected(port) as (link, _):
      with pytest.raises(exceptions.ConnectionClosed, match="1009"):
        ask(link, b"x" * 10_001)
    with connected(port) as (link, _):
      # 1 GB is announced: turned away before a byte of it is read
      link.socket.sendall(b"\x82\xff" + (2**30).to_bytes(8, "big") + b"\0" * 4)
      with pytest.raises(exceptions.ConnectionClosed, match="1009"):
        link.recv(timeout=20)
    assert "actions" in ask(other, observe(policy, 1))


def test_by_default_twice_the_images_fit():
  with serving() as (policy, port), connected(port) as (link, _):
    images = policy.example()["images"].nbytes
    assert isinstance(ask(link, b"\xc1" * 2 * images), str)


def test_a_client_that_sends_nothing_else_is_sent_away():
  with serving(limits={"rate_hz": 1e4}) as (policy, port), connected(
      port) as (link, _):
    for _ in range(serve.MAX_FAULTS - 1):
      ask(link, b"\xc1")
    ask(link, observe(policy, 1))                    # one good one forgives
    for _ in range(serve.MAX_FAULTS):
      assert ask(link, b"\xc1").startswith("E-DATA")
    with pytest.raises(exceptions.ConnectionClosed, match="1008"):
      link.recv(timeout=20)


def together(port, policy, steps, answers):
  """Asks from as many connections, while the policy is held at a first one."""
  with contextlib.ExitStack() as stack:
    links = [stack.enter_context(connected(port))[0] for _ in steps]
    pool = stack.enter_context(
        concurrent.futures.ThreadPoolExecutor(len(links)))
    policy.gate.clear()
    waiting = []
    for step, link in zip(steps, links, strict=True):
      waiting.append(pool.submit(ask, link, observe(policy, step)))
      time.sleep(0.05)
    policy.gate.set()
    answers.extend(future.result() for future in waiting)


def test_what_comes_together_is_planned_together():
  answers = []
  with serving(limits={"batch": 3}) as (policy, port):
    together(port, policy, [1, 2, 3, 4, 5, 6], answers)
    assert policy.batches == [[1], [2, 3, 4], [5, 6]]
  assert [a["actions"][0, 0] for a in answers] == [1, 2, 3, 4, 5, 6]
  assert [a["server_timing"]["batch"] for a in answers] == [1, 3, 3, 3, 2, 2]


def test_one_that_fails_does_not_stop_the_others():
  answers, policy = [], fake_policy.FakePolicy()
  policy.trouble = {3: errors.NumericsError("not finite"),
                    4: ZeroDivisionError()}
  with serving(policy) as (_, port):
    together(port, policy, [1, 2, 3, 4], answers)
  assert [isinstance(a, str) for a in answers] == [False, False, True, True]
  assert answers[2] == "E-NAN: not finite"
  assert "ZeroDivisionError" in answers[3] and "server's log" in answers[3]


def test_a_client_that_leaves_while_it_waits_is_forgotten():
  with serving() as (policy, port):
    policy.gate.clear()
    with connected(port) as (link, _):
      link.send(observe(policy, 1))
    policy.gate.set()
    with connected(port) as (link, _):
      assert ask(link, observe(policy, 2))["actions"][0, 0] == 2


def test_more_clients_than_allowed_are_turned_away():
  with serving(limits={"clients": 1}) as (policy, port):
    with connected(port) as (link, _):
      with pytest.raises(exceptions.InvalidStatus, match="503"), connected(
          port):
        pass
      assert "actions" in ask(link, observe(policy, 1))
    time.sleep(0.2)
    with connected(port):
      pass


def test_fast_clients_wait():
  with serving(limits={"rate_hz": 20.0}) as (policy, port), connected(
      port) as (link, _):
    start = time.monotonic()
    for step in range(5):
      ask(link, observe(policy, step))
    assert time.monotonic() - start >= 4 / 20


def test_a_port_in_use_is_an_error():
  with serving() as (policy, port), pytest.raises(OSError), serve.in_background(
      serve.Server(policy, port=port)):
    pass
