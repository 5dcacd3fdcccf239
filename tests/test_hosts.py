"""On one host the functions of several do nothing; what hosts compare."""

import os
import signal

import jax
import ml_collections
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import hosts, meshes, rendezvous, step

AXES = ("data", "fsdp", "expert")


def config(**values):
  return ml_collections.ConfigDict({"seed": 0, "model": {"layers": 2}} | values)


def test_one_host_waits_for_nobody():
  assert hosts.first()
  hosts.barrier("alone", 0.001)
  assert hosts.gather("alone", {"a": 1}) == [{"a": 1}]
  hosts.agree("alone", {"a": 1})
  with hosts.first_goes_ahead("alone", 0.001):
    pass
  with hosts.joined(None, config()):
    pass
  twice = jax.jit(lambda x: 2 * x)
  assert hosts.in_step("alone", twice) is twice
  hosts.check_mesh({"data": 1, "fsdp": 2, "expert": 1})  # 6 devices idle: fine


def test_sigterm_asks_to_stop_after_the_step_at_work():
  with hosts.Stop() as stop:
    assert not stop.after(1)
    signal.raise_signal(signal.SIGTERM)
    assert stop.after(2)
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_equal_hosts_have_equal_facts():
  rendezvous.compare([hosts.facts(config())] * 2)


@pytest.mark.parametrize("change, told", [
    (dict(model={"layers": 3}), "model.layers is 2 on process 0 and 3"),
    (dict(seed=1), "seed is 0 on process 0 and 1"),
])
def test_another_config_is_another_fact(change, told):
  with pytest.raises(errors.ConfigError, match=told):
    rendezvous.compare([hosts.facts(config()),
                        hosts.facts(config(**change))])


def test_other_sources_are_named_by_file(monkeypatch):
  here, there = hosts.facts(config()), hosts.facts(config())
  there["code"]["drivemoe_jax/step.py"] = "beef"
  with pytest.raises(errors.PeerError, match='step.py is .* and "beef"'):
    rendezvous.compare([here, there])


def test_other_flags_of_the_compiler_are_a_difference(monkeypatch):
  here = hosts.facts(config())
  monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_other")
  with pytest.raises(errors.PeerError, match="XLA_FLAGS"):
    rendezvous.compare([here, hosts.facts(config())])


def test_no_cluster_around_says_which_flags_to_give():
  with pytest.raises(errors.ConfigError, match="give --coordinator"):
    hosts.detected(1)


def test_the_rows_of_the_only_process_are_all():
  for sizes in ((8, 1, 1), (1, 4, 2), (1, 2, 1)):
    mesh = meshes.make_mesh(dict(zip(AXES, sizes)))
    np.testing.assert_array_equal(step.local_rows(mesh, 16), np.arange(16))
