"""Hosts meet: all get everybody's facts, or all are told who is missing."""

import concurrent.futures
import json
import socket
import time

import pytest

from data_pipeline import errors
from drivemoe_jax import rendezvous


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def place(port, process, processes, timeout_s=10.0):
  return rendezvous.Place(f"127.0.0.1:{port}", processes, process, timeout_s)


def start(pool, places):
  return [pool.submit(rendezvous.meet, p, {"id": {"number": p.process_id}})
          for p in places]


def meet(*places):
  """What each process got, or its error, in the order of `places`."""
  with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    return [f.exception() or list(f.result()) for f in start(pool, places)]


def hello(port, message):
  """Connects as something else; the connection."""
  for _ in range(100):
    try:
      visitor = socket.create_connection(("127.0.0.1", port), timeout=5)
      break
    except OSError:
      time.sleep(0.05)
  visitor.sendall(message)
  return visitor


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_get_the_facts_of_all_in_the_order_of_their_ids(order):
  port = free_port()
  found = meet(*(place(port, i, 3) for i in order))
  assert found == [[{"id": {"number": i}} for i in range(3)]] * 3


def test_the_port_is_free_as_soon_as_they_have_met():
  port = free_port()
  for _ in range(3):
    assert len(meet(*(place(port, i, 2) for i in range(2)))) == 2


def test_one_process_waits_for_nobody():
  assert meet(place(free_port(), 0, 1)) == [[{"id": {"number": 0}}]]


def test_the_missing_are_named_on_every_host_that_came():
  port = free_port()
  found = meet(*(place(port, i, 5, 1.5) for i in (0, 1, 3)))
  for error in found:
    assert isinstance(error, errors.PeerError) and error.status == 6
    assert str(error) == (
        f"E-PEER: 3 of 5 hosts joined 127.0.0.1:{port} after 1.5 s; missing "
        "process ids: 2, 4. Launch on every host, or check the port "
        "(--coordinator)")


def test_without_process_0_each_says_that_it_is_missing():
  port = free_port()
  error, = meet(place(port, 1, 2, 0.5))
  assert isinstance(error, errors.PeerError)
  assert "found nobody" in str(error) and "ids: 0." in str(error)


def test_another_count_stops_all():
  port = free_port()
  found = meet(place(port, 0, 3), place(port, 1, 3), place(port, 2, 4))
  for error in found:
    assert isinstance(error, errors.PeerError)
    assert "process 2 at" in str(error)
    assert "has --processes 4, process 0 has 3" in str(error)


def test_two_with_one_id_stop_all():
  port = free_port()
  found = meet(place(port, 0, 3), place(port, 1, 3), place(port, 1, 3))
  for error in found:
    assert isinstance(error, errors.PeerError)
    assert "two hosts say that they are process 1" in str(error)


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
def test_a_process_that_starts_again_takes_its_own_place(pause_s):
  port = free_port()
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    first, = start(pool, [place(port, 0, 3)])
    early = json.dumps({"process": 1, "processes": 3, "facts": {}})
    hello(port, early.encode() + b"\n").close()
    time.sleep(pause_s)
    rest = start(pool, [place(port, 1, 3), place(port, 2, 3)])
    assert all(len(f.result()) == 3 for f in (first, *rest))
    assert first.result()[1] == {"id": {"number": 1}}


@pytest.mark.parametrize("message", [
    b"GET / HTTP/1.1\r\n\r\n", b"\n", b"[]\n", b'{"process": 1}\n'])
def test_what_is_no_host_is_sent_away(message):
  port = free_port()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    first, = start(pool, [place(port, 0, 2)])
    stranger = hello(port, message)
    assert stranger.recv(1) == b""
    stranger.close()
    second, = start(pool, [place(port, 1, 2)])
    assert first.result() == second.result() and len(first.result()) == 2


def test_a_port_in_use_is_named():
  with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]
    with pytest.raises(errors.PeerError, match=f"listen at 127.0.0.1:{port}"):
      rendezvous.meet(place(port, 0, 2), {})


def facts(jax="0.10.2", layers=18):
  return {"versions": {"jax": jax},
          rendezvous.CONFIG: {"model.layers": layers, "seed": 0}}


def test_equal_hosts_pass():
  rendezvous.compare([facts()] * 3)


def test_another_version_is_named_with_its_host():
  with pytest.raises(errors.PeerError) as caught:
    rendezvous.compare([facts(), facts("0.11.0"), facts()])
  assert ('jax is "0.10.2" on process 0, 2 and "0.11.0" on process 1'
          in str(caught.value))


def test_another_config_is_a_mistake_in_the_config():
  with pytest.raises(errors.ConfigError) as caught:
    rendezvous.compare([facts(), facts(layers=17)])
  assert ("model.layers is 18 on process 0 and 17 on process 1"
          in str(caught.value))


def test_what_only_one_host_has_differs_too():
  with pytest.raises(errors.PeerError, match='"absent" on process 0'):
    rendezvous.compare([{"versions": {}}, {"versions": {"libtpu": "0.0.42"}}])


def test_the_rest_of_the_differences_is_counted():
  with pytest.raises(errors.PeerError, match=r"\(1 more difference"):
    rendezvous.compare([facts(), facts("0.11.0", 17)])
