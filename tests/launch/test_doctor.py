"""The doctor's verdicts on made-up installs, and on none at all."""

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from drivemoe_jax import installed, surroundings
from launch import doctor

ROOT = pathlib.Path(__file__).resolve().parents[2]
Found = installed.Found

WANTED = installed.Wanted(
    ">=3.11,<3.14", ("jax>=0.10,<0.13", "numpy>=2,<3"),
    {"tpu": ("jax[tpu]>=0.10,<0.13",), "torch": ("torch>=2.4",)})
GOOD = {
    "jax": Found("0.10.2", (
        "jaxlib<=0.10.2,>=0.10.1", "numpy>=2.0",
        'jaxlib==0.10.1; extra == "minimum-jaxlib"',
        'libtpu==0.0.42.*; extra == "tpu"', 'requests; extra == "tpu"',
        'absent>=1; python_version < "3.0"')),
    "jaxlib": Found("0.10.2", ("numpy>=2.0",)),
    "numpy": Found("2.4.6"),
}


def verdict(**changes):
  """(level, what, remedy) of GOOD with some of it changed; None takes away."""
  found = {name.replace("_", "-"): one for name, one in (
      GOOD | changes).items() if one}
  return [tuple(fault) for fault in installed.diagnose(WANTED, found, "pip")]


def test_an_install_that_fits_has_no_finding():
  assert verdict() == []
  assert verdict(libtpu=Found("0.0.42.1"), requests=Found("2.34")) == []


@pytest.mark.parametrize("changes, what, remedy", [
    (dict(jaxlib=Found("0.9.0")),
     "jax 0.10.2 wants jaxlib<=0.10.2,>=0.10.1, installed is jaxlib 0.9.0",
     "pip install 'jaxlib<=0.10.2,>=0.10.1'"),
    (dict(jaxlib=None),
     "jax 0.10.2 wants jaxlib<=0.10.2,>=0.10.1, which is not installed",
     "pip install 'jaxlib<=0.10.2,>=0.10.1'"),
    (dict(libtpu=Found("0.0.17")),
     "jax 0.10.2 with [tpu] wants libtpu==0.0.42.*, installed is libtpu 0.0.17",
     "pip install 'libtpu==0.0.42.*'"),
    (dict(numpy=Found("1.26.4")),
     "drivemoe_jax wants numpy<3,>=2, installed is numpy 1.26.4",
     "pip install 'numpy<3,>=2'"),
    (dict(jax=Found("0.4.30")),
     "drivemoe_jax wants jax<0.13,>=0.10, installed is jax 0.4.30",
     "pip install 'jax<0.13,>=0.10'"),
    (dict(jax=None),
     "drivemoe_jax wants jax<0.13,>=0.10, which is not installed",
     "pip install 'jax<0.13,>=0.10'"),
    (dict(tensorflow_metadata=Found("1.21.0"), protobuf=Found("5.29.6")),
     "tensorflow-metadata 1.21.0 does not work with protobuf 5.29.6: its "
     "generated code refuses an older protobuf",
     "pip install 'tensorflow-cpu>=2.20' 'protobuf>=6.31.1,<8'"),
    (dict(opencv_python_headless=Found("4.10.0.82")),
     "opencv-python-headless 4.10.0.82 does not work with numpy 2.4.6: it was "
     "built for numpy 1",
     "pip install 'opencv-python-headless>=4.10.0.84'"),
    (dict(tensorflow=Found("2.21.0"), tensorflow_cpu=Found("2.20.0")),
     "tensorflow 2.21.0 and tensorflow-cpu 2.20.0 are both installed and "
     "overwrite each other's files",
     "pip uninstall -y tensorflow tensorflow-cpu, then install the one that "
     "is wanted"),
    (dict(jaxlib=Found("")),
     "jaxlib has no readable metadata: its installation was cut off",
     "pip install --force-reinstall --no-deps jaxlib"),
    (dict(jax=GOOD["jax"]._replace(copies=2)),
     "jax has 2 folders of metadata, one of them says 0.10.2: an update was "
     "cut off", "pip install --force-reinstall --no-deps jax"),
])
def test_the_bad_pair_comes_first_with_its_remedy(changes, what, remedy):
  assert verdict(**changes)[0] == ("error", what, remedy)


def test_neighbours_of_the_known_bad_pairs_are_fine():
  assert verdict(tensorflow_metadata=Found("1.21.0"),
                 protobuf=Found("6.31.1")) == []
  assert verdict(opencv_python_headless=Found("4.10.0.84")) == []


def test_what_is_missing_is_told_once_though_many_want_it():
  words = [what for _, what, _ in verdict(numpy=None)]
  assert words == ["drivemoe_jax wants numpy<3,>=2, which is not installed"]


def test_requirements_of_requirements_are_followed_with_their_extras():
  found = GOOD | {
      "jax": Found("0.10.2", ("etils[epath]>=1",)),
      "etils": Found("1.15", ('fsspec>=2; extra == "epath"',
                              'tqdm; extra == "other"', "zipp>=3")),
      "zipp": Found("1.0")}
  words = [fault.what for fault in installed.diagnose(WANTED, found, "pip")]
  assert words == ["etils 1.15 wants fsspec>=2, which is not installed",
                   "etils 1.15 wants zipp>=3, installed is zipp 1.0"]


def test_an_old_package_of_an_extra_is_a_warning():
  assert verdict(torch=Found("2.1.0")) == [
      ("warning", "the extra [torch] wants torch>=2.4, installed is torch "
       "2.1.0", "pip install 'torch>=2.4'")]


def test_extras_tell_what_they_lack():
  assert installed.extras(WANTED, GOOD) == {
      "tpu": ["libtpu", "requests"], "torch": ["torch"]}
  assert installed.extras(WANTED, GOOD | {
      "libtpu": Found("1"), "requests": Found("1"), "torch": Found("3")}) == {
          "tpu": [], "torch": []}


def test_the_python_is_held_against_its_range():
  fits = lambda *version: installed.python_fits(">=3.11,<3.14", version)
  assert [fits(3, minor) for minor in (10, 11, 13, 14)] == [
      False, True, True, False]
  assert not fits(2, 12) and not fits(4, 0)


def test_metadata_is_read_from_folders_also_from_broken_ones(tmp_path):
  def write(folder, text):
    (tmp_path / folder).mkdir()
    if text is not None:
      (tmp_path / folder / "METADATA").write_text(text)
  write("Jax_Lib-1.0.dist-info", "Metadata-Version: 2.1\nName: Jax_Lib\n"
        "Version: 1.0\nRequires-Dist: numpy>=2\n")
  write("half-2.0.dist-info", None)
  write("twice-1.0.dist-info", "Name: twice\nVersion: 1.0\n")
  write("twice-2.0.dist-info", "Name: twice\nVersion: 2.0\n")
  found = installed.found([str(tmp_path)])
  assert found["jax-lib"] == Found("1.0", ("numpy>=2",))
  assert found["half"].version == ""
  assert found["twice"].copies == 2
  assert set(found) == {"jax-lib", "half", "twice"}


def test_the_wanted_versions_are_those_of_this_repository():
  wanted = installed.wanted(str(ROOT))
  assert any(line.startswith("jax>=") for line in wanted.requires)
  assert wanted.extras["tpu"][0].startswith("jax[tpu]")
  assert installed.python_fits(wanted.python, sys.version_info)
  names = surroundings.modules(wanted.requires)
  assert names[:2] == ["numpy", "ml_dtypes"] and "orbax.checkpoint" in names
  assert len(names) == len(set(names)) == len(wanted.requires)


def test_the_wanted_versions_of_an_installed_package_are_in_its_metadata(
    tmp_path, monkeypatch):
  folder = tmp_path / "drivemoe_jax-0.1.dist-info"
  folder.mkdir()
  (folder / "METADATA").write_text(
      "Metadata-Version: 2.1\nName: drivemoe_jax\nVersion: 0.1\n"
      "Requires-Python: <3.14,>=3.11\nProvides-Extra: tpu\n"
      "Requires-Dist: jax<0.13,>=0.10\n"
      'Requires-Dist: jax[tpu]<0.13,>=0.10; extra == "tpu"\n')
  monkeypatch.setattr(
      importlib.metadata, "distribution",
      lambda name: importlib.metadata.Distribution.at(folder))
  wanted = installed.wanted(str(tmp_path))
  assert wanted.requires == ("jax<0.13,>=0.10",)
  assert wanted.extras == {"tpu": ("jax[tpu]<0.13,>=0.10",)}
  assert installed.python_fits(wanted.python, (3, 12))


def broken_modules(folder):
  (folder / "fine.py").write_text("print('noise')\n")
  (folder / "raises.py").write_text("raise ImportError('no such symbol')\n")
  (folder / "crashes.py").write_text("import os\nos.abort()\n")
  (folder / "hangs.py").write_text("import time\ntime.sleep(99)\n")
  (folder / "leaves.py").write_text("import os\nos._exit(7)\n")


def test_imports_that_raise_crash_or_hang_are_told_apart(
    tmp_path, monkeypatch):
  broken_modules(tmp_path)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  results = surroundings.load(
      ["fine", "raises", "crashes", "leaves", "fine", "hangs", "json"],
      timeout_s=2)
  assert [one["module"] for one in results] == [
      "fine", "raises", "crashes", "leaves", "fine", "hangs", "json"]
  assert [one["error"] for one in results] == [
      "", "ImportError: no such symbol",
      "took its process down with signal 6", "status 7", "",
      "no answer within 2 s", ""]
  faults = surroundings.load_findings(results, "pip")
  assert [fault.level for fault in faults] == ["error"] * 4
  assert faults[0].what == "import raises fails: ImportError: no such symbol"


def test_devices_that_fail_or_hang_are_an_error(monkeypatch):
  print_one = f"print('{surroundings.MARK}' + '{{\"platform\": \"cpu\"}}')"
  assert surroundings.devices(9, print_one) == {"platform": "cpu"}
  broken = surroundings.devices(9, "raise RuntimeError('no TPU here')")
  assert broken == {"error": "RuntimeError: no TPU here"}
  late = surroundings.devices(0.5, "import time; time.sleep(99)")
  assert late == {"error": "no answer within 0.5 s"}
  monkeypatch.setenv("JAX_PLATFORMS", "tpu")
  fault, = surroundings.device_findings(broken, GOOD, "pip")
  assert fault.level == "error" and "JAX_PLATFORMS, which is tpu" in (
      fault.remedy)


def test_an_accelerator_that_nothing_uses_is_named():
  there = lambda path: path == "/dev/accel0"
  cpu = {"platform": "cpu", "count": 1, "kind": "cpu"}
  fault, = surroundings.device_findings(cpu, GOOD, "pip", there)
  assert "TPU" in fault.what and fault.level == "warning"
  used = GOOD | {"libtpu": Found("0.0.42.1")}
  assert surroundings.device_findings(cpu, used, "pip", there) == []
  assert surroundings.device_findings(cpu, GOOD, "pip", lambda _: False) == []


def test_disk_ports_and_caches_are_tried(tmp_path):
  machine = surroundings.machine(str(tmp_path), str(tmp_path / "new" / "one"))
  assert machine["cache"]["problem"] == "" and machine["disk"]["problem"] == ""
  (tmp_path / "file").write_text("")
  machine = surroundings.machine(str(tmp_path), str(tmp_path / "file"))
  assert "cannot be written" in machine["cache"]["problem"]
  machine["disk"]["free_gb"], machine["memory_gb"] = 0.1, 0.1
  machine["ports"] = {"8000": False, "8476": True}
  machine["temporary"] = {"folder": "", "problem": "No usable directory"}
  words = [fault.level + " " + fault.what
           for fault in surroundings.machine_findings(machine)]
  assert [w.split()[0] for w in words] == [
      "error", "warning", "warning", "warning", "warning"]
  assert "port 8000 is taken" in words[-1]


def test_a_port_in_use_is_not_free():
  import socket
  with socket.socket() as server:
    server.bind(("", 0))
    server.listen()
    assert not surroundings.is_free(server.getsockname()[1])


def test_secrets_of_the_environment_are_hidden(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_API_KEY", "hunter2")
  monkeypatch.setenv("JAX_TEST_PROXY", "http://me:hunter2@host")
  monkeypatch.setenv("UNRELATED_SETTING", "hunter2")
  shown = surroundings.machine(str(tmp_path))["environment"]
  assert shown["WANDB_API_KEY"] == "***" and "UNRELATED_SETTING" not in shown
  assert "hunter2" not in json.dumps(shown)


def command(monkeypatch, tmp_path, found):
  """Exit status and the JSON of the command on a made-up install."""
  monkeypatch.setattr(installed, "found", lambda: found)
  monkeypatch.setattr(installed, "wanted", lambda root: WANTED)
  monkeypatch.setattr(surroundings, "load", lambda names, timeout_s: [])
  monkeypatch.setattr(surroundings, "devices", lambda timeout_s: {
      "platform": "cpu", "count": 1, "kind": "cpu"})
  monkeypatch.setattr(surroundings, "machine_findings", lambda machine: [])
  status = doctor.main(["--json", str(tmp_path / "found.json")])
  return status, json.loads((tmp_path / "found.json").read_text())


def test_the_command_ends_with_the_bad_pair_in_one_line(
    tmp_path, monkeypatch, capsys):
  status, report = command(monkeypatch, tmp_path, GOOD | {
      "jaxlib": Found("0.9.0")})
  said = capsys.readouterr()
  assert status == 2 and not report["ok"]
  assert re.fullmatch(
      r"E-INSTALL: jax 0\.10\.2 wants jaxlib<=0\.10\.2,>=0\.10\.1, installed "
      r"is jaxlib 0\.9\.0; .*-m pip install 'jaxlib<=0\.10\.2,>=0\.10\.1'\n",
      said.err)
  assert "jaxlib                  0.9.0" in said.out


def test_the_command_is_content_with_a_good_install(
    tmp_path, monkeypatch, capsys):
  status, report = command(monkeypatch, tmp_path, GOOD)
  assert status == 0 and report["ok"] and report["findings"] == []
  assert "nothing is broken" in capsys.readouterr().out
  assert report["extras"] == {"tpu": ["libtpu", "requests"],
                              "torch": ["torch"]}


def test_it_runs_where_nothing_at_all_is_installed():
  """-S: no site-packages; the search for packages itself is what is missing."""
  done = subprocess.run(
      [sys.executable, "-S", "-m", "launch.doctor"], cwd=ROOT,
      env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
  assert done.returncode == 2
  assert "Traceback" not in done.stderr
  assert done.stderr.startswith("E-INSTALL: neither packaging nor pip")
