"""Plans by arithmetic and, where a TPU compiler is installed, by compiling."""

import json

import pytest

from data_pipeline import errors
from drivemoe_jax.plan import checks, chips, compiled, describe, hlo
from launch import cli, plan

TINY = ("--config.model.dtype=bfloat16", "--config.model.remat=full")
KEYS = {"method", "libtpu", "topology", "mesh", "batch_per_chip", "fits",
        "bytes_per_chip", "collectives", "estimated_cycles", "clock_ghz",
        "model_flops_per_sample", "estimated_ms", "estimated_mfu",
        "compile_seconds"}


def ask(capsys, *arguments):
  """(exit status, JSON object or None, standard error) of the command."""
  status = plan.main([*arguments, "--json", "-"])
  out, err = capsys.readouterr()
  return status, json.loads(out) if out else None, err


def tiny(capsys, *arguments):
  return ask(capsys, "--config", "configs/tiny.py", "--analytic", *arguments)


def test_an_analytic_plan_is_marked_and_says_what_it_cannot_know(capsys):
  status, result, _ = tiny(capsys, "--topology", "v5e:2x2", "--mesh", "fsdp=4",
                           "--batch-per-chip", "4")
  assert status == 0 and set(result) >= KEYS
  assert result["method"] == "analytic" and result["fits"]
  assert result["mesh"] == {"data": 1, "fsdp": 4, "expert": 1}
  for key in ("collectives", "estimated_cycles", "estimated_ms",
              "estimated_mfu", "compile_seconds"):
    assert result[key] is None
  memory = result["bytes_per_chip"]
  assert memory["peak"] == memory["arguments"] + memory["temporaries"]
  assert memory["hbm"] == int(15.75 * 2**30)


def test_without_a_compiler_the_plan_is_analytic(capsys, monkeypatch):
  monkeypatch.setattr(compiled, "libtpu_version", lambda: None)
  status = plan.main(["--config", "configs/tiny.py", "--topology", "v5e:2x2",
                      "--mesh", "fsdp=4", "--batch-per-chip", "4"])
  out = capsys.readouterr().out
  assert status == 0 and "analytic" in out and "pip install" in out
  result = describe.describe(cli.load_config("configs/tiny.py"),
                             describe.Request("v5e:2x2", {"fsdp": 4}))
  assert result["method"] == "analytic" and result["libtpu"] is None


@pytest.mark.parametrize("flags, words", [
    (("--what", "sample", "--mesh", "fsdp=4"), "--mesh is not for --what"),
    (("--what", "sample", "--slices", "2"), "--slices is not for --what"),
    (("--hlo", "x.txt", "--analytic"), "--hlo is not for --analytic")])
def test_a_flag_without_an_effect_is_refused(capsys, flags, words):
  assert plan.main(["--config", "configs/tiny.py", "--topology", "v5e:2x2",
                    *flags]) == 2
  assert words in capsys.readouterr().err


def test_a_program_that_nobody_compiles_is_not_written(capsys, monkeypatch):
  monkeypatch.setattr(compiled, "libtpu_version", lambda: None)
  assert plan.main(["--config", "configs/tiny.py", "--topology", "v5e:2x2",
                    "--hlo", "x.txt"]) == 2
  assert "--hlo needs libtpu" in capsys.readouterr().err


def test_arguments_are_the_state_in_its_shards(capsys):
  held = lambda *flags: tiny(
      capsys, "--topology", "v5e:2x2", "--batch-per-chip", "1",
      *flags)[1]["bytes_per_chip"]["arguments"]
  whole, shared = held("--mesh", "data=4,fsdp=1"), held("--mesh", "fsdp=4")
  # All but norms, biases and routers is cut into four.
  assert 0.25 * whole < shared < 0.6 * whole


def test_a_second_slice_doubles_chips_and_not_what_each_holds(capsys):
  flags = ("--topology", "v5e:2x2", "--batch-per-chip", "4", "--mesh")
  _, one, _ = tiny(capsys, *flags, "data=1,fsdp=4")
  status, two, _ = tiny(capsys, *flags, "data=2,fsdp=4", "--slices", "2")
  assert status == 0 and (one["slices"], two["slices"]) == (1, 2)
  assert (one["chips"], two["chips"]) == (4, 8)
  assert two["bytes_per_chip"] == one["bytes_per_chip"]


def test_a_chip_of_two_devices_is_told_and_counted_whole(capsys):
  status, v4, _ = tiny(capsys, "--topology", "v4:2x2x1", "--mesh",
                       "data=8,fsdp=1", "--batch-per-chip", "2")
  assert status == 0 and v4["devices_per_chip"] == 2 and v4["chips"] == 4
  _, v5p, _ = tiny(capsys, "--topology", "v5p:2x2x1", "--mesh", "data=4,fsdp=1",
                   "--batch-per-chip", "1")
  assert v4["bytes_per_chip"]["arguments"] == (
      2 * v5p["bytes_per_chip"]["arguments"])
  status, _, err = tiny(capsys, "--topology", "v4:2x2x1", "--mesh", "fsdp=8",
                        "--batch-per-chip", "3")
  assert status == 2 and "multiple of the 2 devices" in err


@pytest.mark.parametrize("flags, message", [
    (("--topology", "v5e:3x3"), "E-CONFIG: unknown topology 'v5e:3x3'"),
    (("--topology", "v9:2x2"), "v5e: 1x1, 2x2"),
    (("--topology", "v5e:2x2", "--mesh", "fsdp=3"), "E-MESH"),
    (("--topology", "v5e:2x2", "--mesh", "fsdp=2,data=1"), "runs as a whole"),
    (("--topology", "v5e:2x2", "--mesh", "tensor=2"), "'tensor=2'"),
    (("--topology", "v5e:2x2", "--mesh", "fsdp=x"), "'fsdp=x'"),
    (("--topology", "v5e:2x2", "--mesh", "fsdp=4",
      "--batch-per-chip", "0"), "multiple of"),
    (("--topology", "v5e:2x2", "--slices", "0"), "--slices 0: must be"),
    (("--topology", "v5e:2x2", "--slices", "2", "--mesh", "data=1,fsdp=4"),
     "of the 8 devices of 2 x v5e:2x2")])
def test_what_a_user_can_get_wrong(capsys, flags, message):
  status, result, err = tiny(capsys, *flags)
  assert status == 2 and result is None and message in err


def test_over_budget_names_need_budget_and_three_remedies(capsys, tmp_path):
  status = plan.main([
      "--config", "configs/stage1.py", "--topology", "v5e:2x2", "--mesh",
      "fsdp=4", "--batch-per-chip", "16", "--analytic",
      "--config.model.remat=dots", "--json", str(tmp_path / "plan.json")])
  out, err = capsys.readouterr()
  result = json.loads((tmp_path / "plan.json").read_text())
  assert status == 2 and result["fits"] is False
  assert err.startswith("E-HBM: needs ~") and "of 15.8 GiB per chip" in err
  assert err.count("(-") == 3 and "remat=full" in err
  saved = [s["saves_bytes"] for s in result["suggestions"]]
  assert saved == sorted(saved, reverse=True) and min(saved) > 0
  assert "arithmetic" in out


def test_following_a_remedy_saves_what_it_said(capsys):
  flags = ["--config", "configs/stage1.py", "--topology", "v5e:4x4", "--mesh",
           "fsdp=16", "--batch-per-chip", "16", "--analytic"]
  _, before, _ = ask(capsys, *flags, "--config.model.remat=none")
  best = before["suggestions"][0]
  assert best["change"] == "config.model.remat=full"
  _, after, _ = ask(capsys, *flags, "--config.model.remat=full")
  assert before["bytes_per_chip"]["peak"] - after["bytes_per_chip"]["peak"] == (
      best["saves_bytes"])


def test_the_batch_is_cut_only_where_it_is_asked_for(capsys):
  flags = ("--topology", "v5e:2x2", "--mesh", "fsdp=4", "--batch-per-chip",
           "8")
  _, whole, _ = tiny(capsys, *flags)
  _, cut, _ = tiny(capsys, *flags, "--config.per_device_batch=2")
  assert whole["microbatches"] == 1 and cut["microbatches"] == 4
  assert cut["bytes_per_chip"]["peak"] < whole["bytes_per_chip"]["peak"]


def test_a_sampler_runs_on_one_chip_with_narrow_weights(capsys):
  narrow, wide = (tiny(
      capsys, "--topology", "v5e:2x2", "--what", "sample",
      f"--config.model.dtype={dtype}")[1]["bytes_per_chip"]["arguments"]
                  for dtype in ("bfloat16", "float32"))
  assert 0.5 * wide < narrow < 0.8 * wide


def test_a_sampler_asks_nothing_of_the_run_s_mesh(capsys):
  flags = ("--topology", "v5e:2x2", "--what", "sample")
  _, plain, _ = tiny(capsys, *flags)
  status, preset, _ = tiny(capsys, *flags, "--config.mesh.preset=v5e-16")
  assert status == 0 and preset == plain
  assert preset["mesh"] == {"data": 1, "fsdp": 1, "expert": 1}


def test_the_compilers_refusal_is_read():
  first = compiled.out_of_memory(
      "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 18.53G "
      "of 15.75G hbm. Exceeded hbm capacity by 2.78G.\nTotal hbm usage >= "
      "18.78G: reserved 258.00M, program 18.53G, arguments 9.50G")
  assert first["peak"] == int(18.53 * 2**30)
  assert first["arguments"] == int(9.5 * 2**30)
  other = compiled.out_of_memory(
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
      "for HLO temporaries (100.00G) exceeds available HBM (15.75G).")
  assert other["peak"] == other["temporaries"] == 100 * 2**30
  assert compiled.out_of_memory("INTERNAL: another thing") is None


def test_loops_of_unknown_length_refuse_all_totals():
  c = cli.load_config("configs/tiny.py")
  request = describe.Request("v5e:2x2", {"fsdp": 4})
  config, request, chip, sizes = describe.prepare(c, request)
  result = describe.frame(config, chip, sizes, request)
  program = hlo.Program(cycles=10, loops={"while.3": None})
  describe.add_program(result, program, config, chip, request)
  assert "while.3" in result["refused"]
  assert result["estimated_ms"] is None and result["collectives"] is None


@pytest.mark.parametrize("topology, devices", [("v4:2x2x1", 8),
                                               ("v5p:2x2x1", 4)])
def test_collectives_are_told_per_chip(topology, devices):
  config, request, chip, sizes = describe.prepare(
      cli.load_config("configs/tiny.py"),
      describe.Request(topology, {"fsdp": devices}))
  result = describe.frame(config, chip, sizes, request)
  result["bytes_per_chip"] = {"arguments": 1, "temporaries": 1}
  moved = hlo.Moved("all-reduce", (("f32", (5,)),), 20, 3, None, (0, 1), "here")
  describe.add_program(
      result, hlo.Program(cycles=10, collectives=[moved], across=[moved]),
      config, chip, request)
  told = {"all-reduce": {"count": 3, "bytes": 60 * devices // 4}}
  assert result["collectives"] == result["across_slices"] == told


@pytest.mark.parametrize("dtype, shape, group, dimension, fault", [
    ("bf16", (64, 192, 1), (0, 1), 0, None),
    ("f32", (2048, 2, 192), (0, 1), 0, "not_bf16"),
    ("bf16", (4096, 64), (0, 1), 0, "embedding"),
    ("bf16", (8, 2, 64, 128), (0, 1), 0, "experts"),
    ("bf16", (8, 2, 64, 128), (0, 2), 0, None)])  # over fsdp
def test_gathers_that_must_not_be(dtype, shape, group, dimension, fault):
  import jax
  model = type("Model", (), dict(
      skill_experts=7, shared_experts=1, vocab_size=4096, vlm_width=64,
      moe_layers=2))
  leaf = lambda *shape: jax.ShapeDtypeStruct(shape, "float32")
  shapes = [leaf(3, 64, 192), leaf(3, 2, 2048, 192), leaf(4096, 64),
            leaf(2, 8, 2, 64, 128)]
  moved = hlo.Moved("all-gather", ((dtype, shape),), 1, 3, dimension, group,
                    "here")
  found = checks.gathers(hlo.Program(collectives=[moved]), shapes, model,
                         {"data": 1, "fsdp": 2, "expert": 2})
  assert [name for name in ("not_bf16", "embedding", "experts")
          if found[name]] == ([fault] if fault else [])
  assert found["parameter_bytes"] == 3 * hlo.size(dtype, shape)


needs_libtpu = pytest.mark.skipif(
    compiled.libtpu_version() is None, reason="libtpu is not installed")


@needs_libtpu
def test_a_compiled_sampler(capsys, tmp_path):
  status, result, _ = ask(
      capsys, "--config", "configs/tiny.py", "--topology", "v5e:2x2", "--what",
      "sample", *TINY, "--config.model.layers=2", "--config.model.moe_layers=1",
      "--config.model.vision_layers=2", "--config.flow.steps=3", "--hlo",
      str(tmp_path / "text"))
  assert status == 0 and result["method"] == "compiled"
  assert 3 in result["loops"].values() and result["refused"] is None
  assert result["weight_copies"] == []
  cycles = hlo.read((tmp_path / "text").read_text()).cycles
  assert result["estimated_cycles"] == cycles > 0
  assert result["estimated_ms"] == pytest.approx(cycles / 1.503e6)


@needs_libtpu
@pytest.mark.slow
def test_a_compiled_train_step(capsys):
  status, result, _ = ask(
      capsys, "--config", "configs/tiny.py", "--topology", "v5e:2x2", "--mesh",
      "fsdp=4", "--batch-per-chip", "4", *TINY)
  assert status == 0 and result["fits"]
  assert result["collectives"]["all-gather"]["bytes"] > 0
  assert not result["gathers"]["not_bf16"]
  assert result["estimated_mfu"] == pytest.approx(
      4 * 3 * result["model_flops_per_sample"] / 197e12
      / (result["estimated_ms"] / 1e3))
  guess = describe.describe(
      cli.load_config("configs/tiny.py", TINY),
      describe.Request("v5e:2x2", {"fsdp": 4}, 4, analytic=True))
  # A TPU pads arrays to tiles, which triples so small a state; nothing else.
  ratio = (result["bytes_per_chip"]["arguments"]
           / guess["bytes_per_chip"]["arguments"])
  assert 1 <= ratio < 3


def test_every_slice_names_its_chips():
  assert chips.parse("v5e:4x4")[1] == 16 and chips.parse("v5p:4x4x4")[1] == 64
  with pytest.raises(errors.ConfigError, match="16x16x24"):
    chips.parse("v5e")
