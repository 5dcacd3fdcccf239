"""Mesh sizes from presets and statements, and devices laid out on slices."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from data_pipeline import errors
from drivemoe_jax import build, inventory, meshes, sharding, step
from launch import cli, train


def sizes(data, fsdp, expert):
  return {"data": data, "fsdp": fsdp, "expert": expert}


def keys(data=None, fsdp=None, expert=None, preset=""):
  return sizes(data, fsdp, expert) | {"preset": preset}


@pytest.mark.parametrize("asked, devices, want", [
    ((1, -1, 1), 16, (1, 16, 1)), ((-1, 4, 2), 8, (1, 4, 2)),
    ((2, 2, 2), 8, (2, 2, 2)), ((1, 1, 1), 8, (1, 1, 1))])
def test_minus_one_takes_what_is_left(asked, devices, want):
  assert meshes.resolve(*asked, devices) == sizes(*want)


@pytest.mark.parametrize("asked, devices", [
    ((1, 3, -1), 8), ((4, 4, 1), 8), ((-1, -1, 1), 8), ((0, 1, 1), 8)])
def test_a_mesh_that_does_not_fit_is_refused(asked, devices):
  with pytest.raises(errors.MeshError, match="E-MESH: mesh data"):
    meshes.resolve(*asked, devices)


def test_an_uneven_batch_names_the_numbers_and_the_nearest_legal():
  with pytest.raises(errors.MeshError) as caught:
    meshes.microbatches(19, 8, sizes(2, 2, 1))
  assert str(caught.value) == (
      "E-MESH: global_batch 19 is not divisible by data*fsdp*expert = 4. "
      "Nearest legal: 16 or 20.")
  with pytest.raises(errors.MeshError, match="Nearest legal: 4.$"):
    meshes.microbatches(3, 8, sizes(2, 2, 1))
  # 24 fits four devices, but not in whole microbatches of 4 each.
  with pytest.raises(errors.MeshError, match="per_device_batch = 4.*16 or 32"):
    meshes.microbatches(24, 4, sizes(2, 2, 1))


@pytest.mark.parametrize("batch, per_device, mesh, want", [
    (1024, 8, (1, 8, 1), 16), (128, 8, (1, 8, 1), 2), (128, 8, (1, 16, 1), 1),
    (32, 32, (1, 1, 1), 1), (16, 8, (8, 1, 1), 1)])
def test_microbatches_fill_what_a_device_holds(batch, per_device, mesh, want):
  assert meshes.microbatches(batch, per_device, sizes(*mesh)) == want


@pytest.mark.parametrize("stated, devices, want", [
    (keys(), 8, (1, 8, 1)),  # no preset: 1, -1, 1
    (keys(expert=2), 8, (1, 4, 2)),
    (keys(preset="v5e-16"), 16, (1, 16, 1)),
    (keys(preset="2xv5e-256"), 512, (32, 16, 1)),
    # What is stated wins, and the rest is the preset's.
    (keys(preset="v5e-16", fsdp=4, expert=4), 16, (1, 4, 4)),
    (keys(preset="v5e-16", fsdp=-1, expert=4), 16, (1, 4, 4)),
    (keys(preset="v6e-256", data=-1, expert=4), 256, (4, 16, 4))])
def test_what_is_stated_wins_over_the_preset(stated, devices, want):
  assert meshes.choose(stated, devices) == sizes(*want)


@pytest.mark.parametrize("stated, devices, words", [
    (keys(preset="v5e-16", fsdp=1), 16, "16 devices.*1\\*1\\*1 = 1.*to -1"),
    (keys(preset="v5e-16", expert=4), 16, "1\\*16\\*4 does not fit 16"),
    (keys(preset="v5e-16"), 8, "is 16 devices, but 8 are here"),
    (keys(preset="v5e-17"), 8, "'v5e-17' is not known; choose one of v5e-16"),
    (keys(preset="0xv5e-16"), 8, "is not known")])
def test_a_preset_that_does_not_hold_is_refused(stated, devices, words):
  with pytest.raises(errors.ConfigError, match=words):
    meshes.choose(stated, devices)


def test_a_preset_sets_what_a_device_takes_unless_that_is_stated():
  load = lambda *overrides: cli.load_config(
      "configs/stage1.py", [f"--config.{o}" for o in overrides])
  batch = lambda c: meshes.per_device_batch(c.mesh, c.per_device_batch)
  assert batch(load()) == meshes.PER_DEVICE_BATCH
  assert batch(load("mesh.preset=v6e-8")) == 16
  assert batch(load("mesh.preset=v6e-8", "per_device_batch=4")) == 4
  # 128 = 2 x 8 x 8 = 1 x 16 x 8
  pieces = lambda c: build.microbatches(c, build.mesh_sizes(c, 8))
  assert pieces(load()) == 2 and pieces(load("mesh.preset=v6e-8")) == 1


@pytest.mark.parametrize("name", [*meshes.PRESETS, "4xv6e-256"])
def test_every_preset_divides_the_released_model(name):
  found = meshes.preset(name)
  count = int(name.partition("-")[2] or math.prod(
      int(n) for n in name.partition(":")[2].split("x")))
  assert found.devices == count * (4 if name.startswith("4x") else 1)
  sharding.specs(step.param_shapes(build.model(
      cli.load_config("configs/stage1.py"))), found.sizes)


def test_a_dry_run_needs_no_such_slice_and_explains_on_request(
    capsys, monkeypatch):
  command = ["--config", "configs/tiny.py", "--dry-run",
             "--config.mesh.preset=v5e-16", "--config.mesh.fsdp=16"]
  described = inventory.describe(cli.load_config("configs/tiny.py",
                                                 command[-2:]))
  monkeypatch.setattr(inventory, "describe", lambda config: described)
  assert train.main(command) == 0
  short = capsys.readouterr().out
  assert train.main([*command, "--explain"]) == 0
  long = capsys.readouterr().out
  assert "'fsdp': 16" in short and "img/head/kernel" not in short
  assert "img/head/kernel (64, 64) P(None, ('fsdp', 'expert')): " in long
  for text in (short, long):
    assert "parameters: 0.0" in text and "optimiser: 0.0" in text
  assert train.main(["--config", "configs/tiny.py", "--explain"]) == 2
  assert "--explain goes with --dry-run" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Chip:
  """As much of a device as laying it out needs."""

  id: int
  coords: tuple
  slice_index: int = 0
  platform: str = "tpu"
  device_kind: str = "TPU v5 lite"
  core_on_chip: int = 0


def pod(x, y, slices=1, **changes):
  """Slices of x * y chips, interleaved as no sorted list would be."""
  return [Chip(i, (i % x, i // x, 0), s, **changes)
          for i in range(x * y) for s in range(slices)]


def test_replicas_alone_cross_slices():
  grid, why = meshes.arrange(sizes(4, 2, 4), pod(4, 4, slices=2))
  assert grid.shape == (4, 2, 4) and not why
  slice_of = np.vectorize(lambda chip: chip.slice_index)(grid)
  assert (slice_of == np.array([0, 0, 1, 1])[:, None, None]).all()
  assert len(set(grid.flat)) == 32


def test_slices_that_data_cannot_join_are_refused():
  with pytest.raises(errors.MeshError, match="2 slices of 16, 16 .*data = 1.*"
                     "multiple of 2"):
    meshes.arrange(sizes(1, 32, 1), pod(4, 4, slices=2))
  with pytest.raises(errors.MeshError, match="data = 3"):
    meshes.arrange(sizes(3, 4, 2), pod(4, 4, slices=2)[:24])
  # Hosts of other machines are slices to jax; there it is a matter of speed.
  hosts = pod(4, 2, slices=2, platform="gpu", device_kind="H100")
  grid, _ = meshes.arrange(sizes(1, 16, 1), hosts)
  assert grid.shape == (1, 16, 1) and len(set(grid.flat)) == 16


def test_an_expert_group_is_a_line_of_the_torus():
  grid, why = meshes.arrange(sizes(2, 2, 4), pod(4, 4))
  assert not why
  for group in grid.reshape(-1, 4):
    along = [{chip.coords[axis] for chip in group} for axis in (0, 1)]
    assert sorted(map(len, along)) == [1, 4]


def test_devices_without_a_torus_keep_their_order_and_say_why(caplog):
  halves = [Chip(i, (i // 2, 0, 0), core_on_chip=i % 2, device_kind="TPU v4")
            for i in range(4)]
  grid, why = meshes.arrange(sizes(1, 2, 2), halves)
  assert [chip.id for chip in grid.flat] == [0, 1, 2, 3]
  assert "one device per chip" in why
  assert meshes.make_mesh(sizes(2, 2, 1)).devices.size == 4
  assert not caplog.records  # CPUs have no torus to miss


def test_the_mesh_is_auto_so_that_constraints_are_requests():
  mesh = meshes.make_mesh(sizes(2, 2, 1))
  assert mesh.devices.size == 4
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
