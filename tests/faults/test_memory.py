"""The watch over the host memory: three shares, and a run that shrinks."""

import pytest

from data_pipeline import errors
from drivemoe_jax import datasets, memory
from tests.small_run import assert_equal, load, log_of, params_of, run


class Host:
  """A process whose memory a test sets, and what the watch did to it."""

  def __init__(self, budget_gb=10.0, freed=0.0):
    self.used, self.said, self.freed = 1e9, [], freed
    self.watch = memory.Watch(budget_gb, host=3, say=self.said.append,
                              shrink=self._shrink, resident=lambda: self.used)

  def _shrink(self):
    self.used -= self.freed
    return "smaller"

  def at(self, gb):
    self.used = gb * 1e9
    self.said.clear()
    self.watch(7)
    return list(self.said)


@pytest.fixture
def notices(monkeypatch):
  found = []
  monkeypatch.setattr(memory.signal, "raise_signal", found.append)
  return found


def test_each_share_acts_once_and_in_order(notices):
  host = Host()
  assert not host.at(7.9)
  line, = host.at(8.1)
  assert line.startswith("W-RAM: host 3 holds 8.10 of 10.00 GB (81 %) at step "
                         "7; lower data.ram_budget_gb")
  assert not host.at(8.5)
  assert host.at(9.3)[0].endswith("smaller")
  assert not notices and not host.at(9.4)
  assert "saving" in host.at(9.6)[0]
  assert notices == [memory.signal.SIGTERM]
  assert not host.at(9.9) and len(notices) == 1


def test_a_jump_past_all_shares_leaves_only_if_giving_up_did_not_help(notices):
  assert len(Host(freed=2e9).at(9.9)) == 2 and not notices
  assert len(Host().at(9.9)) == 3 and len(notices) == 1


def test_without_a_budget_it_is_what_the_machine_or_container_has(
    tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "LIMITS", (str(tmp_path / "none"),))
  machine = memory.total_bytes()
  for text, want in (("max\n", machine), ("1000000000\n", 10**9),
                     (f"{2**63 - 4096}\n", machine)):
    (tmp_path / "limit").write_text(text)
    monkeypatch.setattr(memory, "LIMITS", (str(tmp_path / "limit"),))
    assert memory.total_bytes() == want
  (tmp_path / "limit").write_text("1000000000")
  assert len(Host(budget_gb=0.0).at(0.85)) == 1
  with pytest.raises(errors.ConfigError, match="host_memory_gb -1"):
    Host(budget_gb=-1.0)


@pytest.mark.slow
def test_a_run_shrinks_saves_and_leaves_and_still_ends_the_same(
    routes, undisturbed, tmp_path, monkeypatch):
  """0.93 of its budget from step 2 on, 0.96 from step 5 on."""
  budgets, steps = [], []
  real = datasets.train_batches

  def batches(config, windows, stats, start, weights):
    budgets.append((config.data.ram_budget_gb, start))
    return real(config, windows, stats, start, weights)

  def resident():
    n = len(steps) // 3 + 1  # it is asked three times an update
    steps.append(n)
    return 1e9 * (0.1 if n < 2 else 0.93 if n < 5 else 0.96)

  monkeypatch.setattr(datasets, "train_batches", batches)
  with monkeypatch.context() as patch:
    patch.setattr(memory, "_resident", resident)
    status, lines = run(load(routes, host_memory_gb=1.0), tmp_path)
  assert status == 75 and lines[-1].startswith("preempted: step 6 of 8")
  assert sum(line.startswith("W-RAM: host 0 holds") for line in lines) == 3
  assert budgets == [(1.0, 0), (0.0, 2)]
  status, lines = run(load(routes), tmp_path)
  assert status == 0 and lines[0].startswith("resume: step 6,")
  assert_equal(params_of(tmp_path), params_of(undisturbed))
  assert [line["loss"] for line in log_of(tmp_path)] == [
      line["loss"] for line in log_of(undisturbed)]
