"""Where the hosts of a run meet before any of them touches a device.

jax's own start tells a host that waits in vain nothing of who is missing. So
each host first tells process 0, at the same address and port, its number and
some facts; process 0 compares them and answers all alike: that they may go on,
what differs, or which numbers did not come. JSON lines over TCP.
"""

import dataclasses
import json
import re
import select
import socket
import time

from data_pipeline import errors, reading

RETRY_S = 0.2
LINGER_S = 3.0  # after a fault, for those who have not heard it
VISITOR_S = 5.0  # how long one that connects may take to say who it is
# Bytes of a message, which is one host's facts (about 12 kB, most of it digests
# of sources) or an answer of one line: it does not grow with the hosts' facts.
LONGEST = 1 << 20
GREETING = "joined as process "  # a process's first words in its log
CONFIG = "the config"  # the group of facts whose difference is no host's
ERRORS = {kind.code: kind for kind in (errors.PeerError, errors.ConfigError)}


@dataclasses.dataclass(frozen=True)
class Place:
  """Attributes: coordinator "HOST:PORT" of process 0; processes: how many;
  process_id: this one's; timeout_s: seconds until the missing are named."""

  coordinator: str
  processes: int
  process_id: int
  timeout_s: float


def meet(place, facts):
  """Waits until all hosts are there with equal facts.

  Args:
    place: Place. facts: {group: {name: value}}, JSON.

  Raises:
    PeerError, ConfigError: hosts that did not come, that contradict each other,
      or whose facts differ (see `compare`); the same on every host that came.
  """
  if place.process_id == 0:
    _Host(place).gather(facts)
  else:
    _visit(place, facts)


class _Host:
  """Process 0: takes the others' facts and answers when all are there."""

  def __init__(self, place):
    self._place = place
    self._visitors = {}  # process id -> its connection
    self._fault = None

  def gather(self, facts):
    found = {0: facts}
    with _listen(self._place) as server:
      self._collect(server, found)
    try:
      if self._fault:
        raise errors.PeerError(self._fault)
      compare([found[i] for i in range(self._place.processes)])
    except errors.UserError as error:
      self._answer(_refusal(error))
      raise
    self._answer({"ok": True})

  def _collect(self, server, found):
    """Until all are there, or it is clear that they will not be."""
    end = time.monotonic() + self._place.timeout_s
    while not self._complete(found):
      server.settimeout(max(end - time.monotonic(), 0.001))
      try:
        visitor, address = server.accept()
      except TimeoutError:
        self._fault = self._fault or self._missing(found)
        return
      fault = self._take(visitor, address[0], found)
      if fault and not self._fault:  # stays to tell those on their way
        self._fault = fault
        end = min(end, time.monotonic() + LINGER_S)

  def _complete(self, found):
    """Whether all are there; forgets those that hung up while they waited."""
    for process in [i for i, v in self._visitors.items() if _gone(v)]:
      self._visitors.pop(process).close()
      del found[process]
    return len(found) == self._place.processes

  def _take(self, visitor, address, found):
    """Reads one visitor; sends away what is no host; returns its fault."""
    visitor.settimeout(VISITOR_S)
    try:
      told = _read(visitor)
      process, count = int(told["process"]), int(told["processes"])
      _flat(told["facts"])  # or it has none
    except (OSError, ValueError, KeyError, TypeError, AttributeError,
            OverflowError):
      visitor.close()
      return None
    place = self._place
    if count != place.processes or not 0 < process < count:
      visitor_says = f"process {process} at {address} has --processes {count}"
      fault = (f"{visitor_says}, process 0 has {place.processes}; start all "
               "hosts with the same --processes and ids from 0")
    elif process in self._visitors and not _gone(self._visitors[process]):
      fault = (f"two hosts say that they are process {process}, the second is "
               f"{address}; give each its own --process-id")
    else:
      self._visitors[process], found[process] = visitor, told["facts"]
      return None
    _tell(visitor, _refusal(errors.PeerError(fault)))
    visitor.close()
    return fault

  def _missing(self, found):
    place = self._place
    missing = [i for i in range(place.processes) if i not in found]
    return (f"{len(found)} of {place.processes} hosts joined "
            f"{place.coordinator} after {place.timeout_s:g} s; missing process "
            f"ids: {', '.join(map(str, missing))}. Launch on every host, or "
            "check the port (--coordinator)")

  def _answer(self, message):
    """Tells all, and waits for them to hang up: the port must be free."""
    for visitor in self._visitors.values():
      _tell(visitor, message)
    for visitor in self._visitors.values():
      try:
        visitor.recv(1)
      except OSError:
        pass
      visitor.close()


def _visit(place, facts):
  """Any other process: tells process 0 and waits for its answer."""
  host, _, port = place.coordinator.rpartition(":")
  message = {"process": place.process_id, "processes": place.processes,
             "facts": facts}
  end = time.monotonic() + place.timeout_s
  while True:
    try:
      with socket.create_connection(
          (host.strip("[]"), int(port)), timeout=VISITOR_S) as server:
        _write(server, message)
        # Process 0 may have come last, and then waits as long as we have.
        server.settimeout(place.timeout_s + VISITOR_S)
        answer = _read(server)
      break
    except (OSError, ValueError) as error:
      if time.monotonic() > end:
        raise errors.PeerError(
            f"process {place.process_id} of {place.processes} found nobody at "
            f"{place.coordinator} after {place.timeout_s:g} s ({error}); "
            "missing process ids: 0. Launch on every host, or check the port "
            "(--coordinator)") from None
      time.sleep(RETRY_S)
  _refused(answer)


def _refused(answer):
  """Raises the error in process 0's answer, if there is one."""
  if not isinstance(answer, dict):
    raise errors.PeerError(
        f"process 0 answered {answer!r:.80}, so it is no such process; check "
        "the host and port (--coordinator)")
  if "error" in answer:
    code = str(answer.get("code"))
    raise ERRORS.get(code, errors.PeerError)(answer["error"])


def compare(everyone):
  """Refuses hosts that do not run the same thing.

  Args:
    everyone: facts by process id, {group: {name: value}}.

  Raises:
    PeerError, or ConfigError where only the configs differ: naming the first
      difference, both values and the processes.
  """
  flat = [_flat(facts) for facts in everyone]
  differ = []
  for key in dict.fromkeys(key for facts in flat for key in facts):
    holders = {}
    for process, facts in enumerate(flat):
      value = json.dumps(facts.get(key, "absent"))
      holders.setdefault(value, []).append(str(process))
    if len(holders) > 1:
      differ.append((key, holders))
  if not differ:
    return
  ((group, name), holders), *more = differ
  told = " and ".join(f"{value} on process {', '.join(ids)}"
                      for value, ids in holders.items())
  others = f" ({len(more)} more differences)" if more else ""
  kind = errors.ConfigError if group == CONFIG else errors.PeerError
  raise kind(f"the hosts differ in {group}: {name} is {told}{others}; start "
             "the same command of the same checkout on every host")


def _flat(facts):
  return {(group, name): value for group, part in facts.items()
          for name, value in part.items()}


def process_ids(names):
  """Ids in jax's list of processes: numbers, or /job:x/replica:0/task:ID."""
  return [int(i) for i in re.findall(r"task:(\d+)", names)
          or re.findall(r"\d+", names)]


def _listen(place):
  port = int(place.coordinator.rpartition(":")[2])
  both = socket.has_dualstack_ipv6()
  try:
    return socket.create_server(
        ("", port), family=socket.AF_INET6 if both else socket.AF_INET,
        dualstack_ipv6=both, backlog=place.processes)
  except OSError as error:
    raise errors.PeerError(
        f"process 0 cannot listen at {place.coordinator} ({error.strerror}); "
        "choose another port (--coordinator), the same on every host"
    ) from None


def _refusal(error):
  return {"error": error.args[0], "code": error.code}


def _write(connection, message):
  connection.sendall(json.dumps(message).encode() + b"\n")


def _tell(visitor, message):
  try:
    _write(visitor, message)
  except OSError:
    pass  # it hung up; it will be missed later


def _read(connection):
  with connection.makefile("rb") as file:
    line = file.readline(LONGEST)
  if not line.endswith(b"\n"):
    raise ConnectionError("it hung up")
  return reading.parse(line)


def _gone(connection):
  """Whether the other side has hung up."""
  ready, _, _ = select.select([connection], [], [], 0)
  try:
    return bool(ready) and not connection.recv(1, socket.MSG_PEEK)
  except OSError:
    return True
