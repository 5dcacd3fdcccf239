"""What a machine offers a run: imports, devices, disk, memory, ports.

Packages are imported in a child process under a timeout: a broken one may
raise, crash the interpreter or wait for a device for ever.
"""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile

from data_pipeline import masking
from drivemoe_jax import installed

# Distribution -> the module that proves it, where the name does not tell.
MODULES = {
    "array-record": "array_record.python.array_record_module",
    "opencv-python-headless": "cv2",
    "orbax-checkpoint": "orbax.checkpoint",
    "pillow": "PIL.Image",
    "pyyaml": "yaml",
    "tensorflow-cpu": "tensorflow",
}
MARK = "\x1edoctor "  # begins a line of the child; libraries print, too
CHILD = f"""
import importlib, json, sys, time
for name in sys.argv[1:]:
  start, error = time.monotonic(), ""
  try:
    importlib.import_module(name)
  except BaseException as fault:
    error = type(fault).__name__ + ": " + str(fault).strip()
  print("{MARK}" + json.dumps([name, error, time.monotonic() - start]),
        flush=True)
"""
DEVICES = f"""
import json, jax
found = jax.devices()
print("{MARK}" + json.dumps({{
    "platform": found[0].platform, "count": len(found),
    "kind": found[0].device_kind}}), flush=True)
"""
# What decides how jax, TensorFlow and a run's log behave.
PREFIXES = ("JAX_", "XLA_", "TF_", "TPU_", "LIBTPU_", "CUDA_", "NVIDIA_",
            "PYTHON", "WANDB_", "DRIVEMOE_", "LD_LIBRARY_PATH", "LD_PRELOAD",
            "MALLOC_", "GLIBC_TUNABLES", "OMP_", "TMPDIR")
DISK_GB, MEMORY_GB = 5.0, 5.0  # what the demo takes
PORTS = {8000: "launch.serve; choose another --port",
         8476: "the coordinator of a run on several hosts; choose another one "
               "in --coordinator"}


def modules(requirements):
  """Module names that prove requirement strings, dependencies of others first.
  """
  names = [installed.canonical(installed.parser().Requirement(x).name)
           for x in requirements]
  names = [MODULES.get(name, name.replace("-", "_")) for name in names]
  first = [name for name in ("numpy", "ml_dtypes", "jax") if name in names]
  return first + [name for name in names if name not in first]


def load(names, timeout_s, code=CHILD):
  """Imports modules in child processes: [{"module", "error", "seconds"}].

  Args:
    names: in this order. timeout_s: for all together, and again for those
      that come after one that hangs or takes its process down.
  """
  names, results = list(names), []
  while names:
    lines, end = _child([code, *names], timeout_s)
    for name, error, seconds in lines:
      results.append({"module": name, "error": error,
                      "seconds": round(seconds, 2)})
    names = names[len(lines):]
    if names and end is not None:
      results.append({"module": names.pop(0), "error": end, "seconds": None})
  return results


def devices(timeout_s, code=DEVICES):
  """{"platform", "count", "kind"} that jax finds, or {"error"}."""
  lines, end = _child([code], timeout_s)
  return lines[0] if lines else {"error": end or "jax said nothing"}


def _child(arguments, timeout_s):
  """(objects that a child printed, why it did not end well or None)."""
  command = [sys.executable, "-c", *arguments]
  try:
    done = subprocess.run(command, capture_output=True, timeout=timeout_s,
                          stdin=subprocess.DEVNULL)
    out, err, status = done.stdout, done.stderr, done.returncode
  except subprocess.TimeoutExpired as late:
    out, err, status = late.stdout or b"", b"", None
  lines = [json.loads(line.removeprefix(MARK))
           for line in out.decode(errors="replace").split("\n")
           if line.startswith(MARK)]
  if status is None:
    return lines, f"no answer within {timeout_s:g} s"
  if status < 0:
    return lines, f"took its process down with signal {-status}"
  said = err.decode(errors="replace").strip().splitlines() or [""]
  return lines, None if status == 0 else said[-1] or f"status {status}"


def load_findings(results, pip):
  """[Finding] of modules that did not load."""
  faults = []
  for one in results:
    if one["error"]:
      first = one["error"].splitlines()[0][:300]
      faults.append(installed.Finding(
          "error", f"import {one['module']} fails: {first}",
          f"{pip} install --force-reinstall --require-hashes "
          "-r requirements.lock"))
  return faults


def device_findings(devices, found, pip, exists=os.path.exists):
  """[Finding] about an accelerator that is there and not used."""
  if "error" in devices:
    chosen = os.environ.get("JAX_PLATFORMS", "")
    return [installed.Finding(
        "error", f"jax finds no device: {devices['error']}",
        f"unset JAX_PLATFORMS, which is {chosen}" if chosen else
        "end the other process that holds the device, or start with "
        "JAX_PLATFORMS=cpu")]
  for file, name, package, extra in (
      ("/dev/accel0", "TPU", "libtpu", "-e '.[tpu]'"),
      ("/dev/nvidia0", "GPU of NVIDIA", "jax-cuda", "'jax[cuda13]'")):
    there = any(one.startswith(package) for one in found)
    if exists(file) and not there:
      return [installed.Finding(
          "warning", f"this machine has a {name} and nothing installed uses it",
          f"{pip} install {extra}")]
  return []


def machine(folder, cache=""):
  """What else a run needs, as a JSON object.

  Args:
    folder: where runs will be written.
    cache: folder of compiled programs, "" for none.
  """
  return {
      "python": platform.python_version(), "executable": sys.executable,
      "system": platform.platform(), "processors": os.cpu_count(),
      "disk": {"folder": folder,
               "free_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
               "problem": write_problem(folder)},
      "memory_gb": _memory_gb(),
      "temporary": _temporary(),
      "cache": {"folder": cache, "problem":
                write_problem(cache, make=True) if cache else ""},
      "ports": {str(port): is_free(port) for port in PORTS},
      "environment": masking.mask({
          name: value for name, value in sorted(os.environ.items())
          if name.startswith(PREFIXES)})}


def machine_findings(machine):
  """[Finding] of `machine`'s object."""
  faults = []
  warn = lambda level, what, remedy: faults.append(
      installed.Finding(level, what, remedy))
  disk, cache = machine["disk"], machine["cache"]
  if machine["temporary"]["problem"]:
    warn("error", f"temporary files: {machine['temporary']['problem']}",
         "set TMPDIR to a folder that can be written")
  if disk["problem"]:
    warn("error", f"{disk['folder']} {disk['problem']}",
         "start in another folder")
  if disk["free_gb"] < DISK_GB:
    warn("warning", f"{disk['free_gb']} GB free at {disk['folder']}, the demo "
         f"takes {DISK_GB:g}", "free some, or write elsewhere")
  if machine["memory_gb"] is not None and machine["memory_gb"] < MEMORY_GB:
    warn("warning", f"{machine['memory_gb']} GB of memory left, the demo takes "
         f"{MEMORY_GB:g}", "end other programs")
  if cache["problem"]:
    warn("warning", f"compile cache {cache['folder']} {cache['problem']}",
         "name another --compile-cache, or none: then all is compiled anew")
  for port, what in PORTS.items():
    if not machine["ports"][str(port)]:
      warn("warning", f"port {port} is taken", f"it is the default of {what}")
  return faults


def write_problem(folder, make=False):
  """Why a folder cannot be written; "" if it can."""
  try:
    if make:
      os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b"probe")
    return ""
  except OSError as error:
    return f"cannot be written: {error.strerror or error}"


def _temporary():
  try:
    return {"folder": tempfile.gettempdir(), "problem": ""}
  except FileNotFoundError as error:
    return {"folder": "", "problem": str(error.strerror or error)}


def _memory_gb(path="/proc/meminfo"):
  """Memory that can be had, GB; None where the system does not tell."""
  try:
    with open(path, encoding="ascii") as file:
      for line in file:
        if line.startswith("MemAvailable:"):
          return round(int(line.split()[1]) * 1024 / 1e9, 1)
  except OSError:
    pass
  return None


def is_free(port):
  """Whether a server could listen on this port."""
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(("", port))
      return True
    except OSError:
      return False
