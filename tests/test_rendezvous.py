"""Hosts meet: all may go on, or all are told who is missing or differs."""

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


def start(pool, places, facts=lambda process: {"seed": {"is": 7}}):
  return [pool.submit(rendezvous.meet, p, facts(p.process_id))
          for p in places]


def meet(*places, **facts):
  """Each process's error, None without, in the order of `places`."""
  with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    return [f.exception() for f in start(pool, places, **facts)]


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
def test_all_go_on_in_whatever_order_they_come(order):
  port = free_port()
  assert meet(*(place(port, i, 3) for i in order)) == [None] * 3


@pytest.mark.parametrize("group, kind", [
    ("code", errors.PeerError), (rendezvous.CONFIG, errors.ConfigError)])
def test_all_are_told_the_same_difference(group, kind):
  port = free_port()
  found = meet(*(place(port, i, 3) for i in range(3)),
               facts=lambda process: {group: {"a": process == 2}})
  assert {type(error) for error in found} == {kind}
  message, = {str(error) for error in found}
  assert "a is false on process 0, 1 and true on process 2" in message


@pytest.mark.parametrize("odd", [None, 61])
def test_a_hundred_hosts_with_many_facts_meet(odd):
  def facts(process):  # as large together as no message may be
    return {"code": {f"drivemoe_jax/source_{i}.py":
                     "0" * 60 + str(i == 7 and process == odd)
                     for i in range(211)}}
  assert 100 * len(json.dumps(facts(0))) > rendezvous.LONGEST
  port = free_port()
  found = meet(*(place(port, i, 100, 30) for i in range(100)), facts=facts)
  if odd is None:
    assert found == [None] * 100
  else:
    message, = {str(error) for error in found}
    assert "source_7.py is " in message and "on process 61;" in message


def test_the_port_is_free_as_soon_as_they_have_met():
  port = free_port()
  for _ in range(3):
    assert meet(*(place(port, i, 2) for i in range(2))) == [None] * 2


def test_one_process_waits_for_nobody():
  assert meet(place(free_port(), 0, 1)) == [None]


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
    # The early one's facts would have been a difference.
    assert [f.exception() for f in (first, *rest)] == [None] * 3


@pytest.mark.parametrize("message", [
    b"GET / HTTP/1.1\r\n\r\n", b"\n", b"[]\n", b'{"process": 1}\n',
    b'{"process": 1, "processes": 2}\n',
    b'{"process": 1, "processes": 2, "facts": [1]}\n',
    b'{"process": 1, "processes": 2, "facts": {"code": 1}}\n',
    b'{"process": [1], "processes": 2, "facts": {}}\n'])
def test_what_is_no_host_is_sent_away(message):
  port = free_port()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    first, = start(pool, [place(port, 0, 2)])
    stranger = hello(port, message)
    assert stranger.recv(1) == b""
    stranger.close()
    second, = start(pool, [place(port, 1, 2)])
    assert first.exception() is None and second.exception() is None


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
