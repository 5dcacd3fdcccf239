"""A child of `launch.evaluate --closed-loop`: drives what its input asks for.

Jobs come as JSON lines, see evaluators.closed_loop.runner.in_children. It holds
no model: a policy is asked over a connection that stays open.
"""

import functools
import json
import logging
import os

from data_pipeline import errors, ticks, wire
from data_pipeline.miniworld import drivers, episode, pool
from launch.carla import remote

WAIT_S = 120.0       # for the server, at the start
ANSWER_S = 600.0     # for a plan; the world waits
# Faults that are no driving: the drive is thrown away.
GONE = {"server", "late"}


@functools.cache
def connect(url, key_file):
  """The policy server; one connection for all drives."""
  key = wire.read_key(key_file) if key_file else None
  server = remote.RemotePolicy(url, key, ANSWER_S)
  server.wait(WAIT_S)
  return server


def drive(folder, kind, seed, size, driver, server=None, key_file=None,
          image_size=None, quality=None, disturbed=None, until_fault=False):
  """One job, see runner.in_children."""
  if os.path.isdir(episode.path(folder, kind, seed)):
    return  # by a child that died after it
  make = drivers.YARDSTICKS.get(driver)
  if make is None:
    asked = connect(server, key_file)
    make = lambda world: drivers.Policy(world, asked.plan, image_size, quality,
                                        disturbed)
  files = episode.drive(kind, seed, make, tuple(size),
                        until_fault=until_fault)
  lost = GONE & set(files["drive"].get("faults", ()))
  if lost:
    raise errors.PeerError(
        f"{server} went away during {kind} {seed}; start it and run again: "
        "finished drives are kept")
  episode.write(folder, files)


def answer(job):
  """A job -> what goes back, as JSON."""
  try:
    drive(**job)
  except errors.UserError as error:
    return json.dumps({"error": [type(error).__name__, error.args[0]]})
  except ticks.Fault as fault:
    return json.dumps({"error": ["PeerError", str(fault)]})
  return json.dumps({})


if __name__ == "__main__":
  logging.getLogger("data_pipeline").setLevel(logging.ERROR)
  pool.serve(answer)
