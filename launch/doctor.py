r"""Names what is wrong with an install, also where jax cannot be imported.

python -m launch.doctor
python -m launch.doctor --json - --compile-cache runs/cache

Every package against the ranges of requirements.txt and pyproject.toml, against
what the others ask of it and against pairs known to fail; then each import and
the devices in a child process; disk, memory, ports, environment (secrets
hidden). Exit 2: something is broken; the last line names it and what to do.
"""

import importlib.util
import os
import shlex
import sys

from data_pipeline import errors
from drivemoe_jax import installed, surroundings
from launch import cli, flags

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def add_arguments(parser):
  parser.add_argument("--timeout", type=float, default=180, metavar="S",
                      help="seconds that importing everything, and asking for "
                      "devices, may take (default 180)")
  parser.add_argument("--compile-cache", metavar="DIR",
                      default=os.environ.get("JAX_COMPILATION_CACHE_DIR", ""),
                      help="folder of compiled programs to try; default: "
                      "JAX_COMPILATION_CACHE_DIR, if it is set")
  flags.add_json(parser, "the findings")


def run(args):
  flags.check_positive(args, "timeout")
  pip = f"{shlex.quote(_short(sys.executable))} -m pip"
  if not importlib.util.find_spec("pip"):  # an environment that uv made
    pip = "uv pip"
  report = examine(args, pip)
  if args.json != "-":
    print(text(report))
  flags.write_json(args, report)
  broken = [one for one in report["findings"] if one["level"] == "error"]
  if broken:
    more = f" ({len(broken) - 1} more above)" if len(broken) > 1 else ""
    raise errors.InstallError(
        f"{broken[0]['what']}; {broken[0]['remedy']}{more}")
  return 0


def examine(args, pip):
  """Everything that was found out, as a JSON object."""
  wanted = installed.wanted(ROOT)
  if not installed.python_fits(wanted.python, sys.version_info):
    raise errors.InstallError(
        f"Python {sys.version.split()[0]}, wanted {wanted.python}; make a new "
        ".venv: PYTHON=/path/to/python3 ./launch/test.sh")
  try:
    installed.parser()
  except ImportError:
    raise errors.InstallError(
        "neither packaging nor pip is installed, versions cannot be compared; "
        "remove .venv and start ./launch/test.sh") from None
  found = installed.found()
  faults = installed.diagnose(wanted, found, pip)
  loaded = surroundings.load(
      [name for name in surroundings.modules(wanted.requires)], args.timeout)
  faults += surroundings.load_findings(loaded, pip)
  devices = surroundings.devices(args.timeout)
  faults += surroundings.device_findings(devices, found, pip)
  machine = surroundings.machine(os.getcwd(), args.compile_cache)
  faults += surroundings.machine_findings(machine)
  return {"ok": all(fault.level != "error" for fault in faults),
          "findings": [fault._asdict() for fault in faults],
          "machine": machine, "devices": devices,
          "packages": packages(wanted, found), "imports": loaded,
          "extras": installed.extras(wanted, found)}


def packages(wanted, found):
  """[{"name", "wanted", "installed"}] of the requirements, and of jax's own.
  """
  rows = []
  for line in (*wanted.requires, "jaxlib", "libtpu", "protobuf", "scipy"):
    need = installed.parser().Requirement(line)
    one = found.get(installed.canonical(need.name))
    rows.append({"name": need.name, "wanted": str(need.specifier),
                 "installed": one.version if one else None})
  return rows


def text(report):
  """The report for a person."""
  machine, devices = report["machine"], report["devices"]
  memory = machine["memory_gb"]
  lines = [
      f"python    {machine['python']} ({_short(machine['executable'])})",
      f"system    {machine['system']}, {machine['processors']} processors, "
      + (f"{memory} GB of memory left" if memory is not None else ""),
      f"disk      {machine['disk']['free_gb']} GB free",
      "devices   " + (devices.get("error") or "{count} x {kind} ({platform})"
                      .format(**devices)),
      *(f"          {name}={value}"
        for name, value in machine["environment"].items()), ""]
  lines += [f"{row['name']:24}{row['installed'] or '-':14}{row['wanted']}"
            for row in report["packages"]]
  lines += ["", *(f"extra [{name}] " + ("lacks " + ", ".join(missing)
                  if missing else "is installed")
                  for name, missing in report["extras"].items())]
  for one in report["findings"]:
    lines += ["", f"{one['level']}: {one['what']}", f"  try: {one['remedy']}"]
  if report["ok"]:
    lines += ["", "nothing is broken"]
  return "\n".join(lines)


def _short(path):
  """A path below the working directory without it."""
  inside = os.path.relpath(path)
  return path if inside.startswith(os.pardir) else inside


main = cli.command(__doc__, add_arguments, run)

if __name__ == "__main__":
  sys.exit(main())
