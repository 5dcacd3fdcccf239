"""What the README promises is there, and the house stays small and clean."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging import requirements, utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("data_pipeline", "drivemoe_jax", "configs", "launch")
# Distribution -> the name it is imported by, where the two differ.
IMPORTED_AS = {
    "array-record": "array_record",
    "highway-env": "highway_env",
    "opencv-python-headless": "cv2",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "tensorflow-cpu": "tensorflow",
    "tensorflow-datasets": "tensorflow_datasets",
}
# A pin of the lock: name, version.
PIN = r"^([\w.-]+)(?:\[[\w, ]+\])?==([^\s;]+)"
FOR_OTHERS = {"importlib_resources"}  # imported by a requirement of ours


def tracked_files():
  """Paths relative to the root: git's list, or in an export all there is."""
  listing = subprocess.run(
      ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
  if listing.returncode == 0 and listing.stdout:
    names = listing.stdout.strip("\0").split("\0")
    return [pathlib.Path(name) for name in names if (ROOT / name).is_file()]
  found = []
  for folder, subfolders, names in os.walk(ROOT):
    subfolders[:] = [name for name in subfolders if name not in (
        ".git", ".venv", "__pycache__", "demo", "runs", "report")]
    found += [pathlib.Path(folder, name).relative_to(ROOT) for name in names]
  return found


def read_text(path):
  """Text of a tracked file; None for pictures and arrays."""
  try:
    return (ROOT / path).read_text(encoding="utf-8")
  except UnicodeDecodeError:
    return None


def program_sources():
  """{path: text} of the Python that ships: everything but the tests."""
  return {path: read_text(path) for path in tracked_files()
          if path.suffix == ".py" and path.parts[0] in PACKAGES}


def readme_table(heading):
  """First cells of the table under a heading of the README."""
  section = read_text("README.md").split(f"\n## {heading}\n")[1]
  rows = re.findall(r"^\| (.*?) \|", section.split("\n## ")[0], re.MULTILINE)
  return rows[1:]


def test_the_readme_lists_exactly_the_commands_there_are():
  launch = [path for path in tracked_files() if path.parts[0] == "launch"]
  name = lambda p: p.parent.name if p.stem == "__init__" else p.stem
  commands = {name(path) for path in launch
              if path.suffix == ".py"
              and re.search(r"^main = cli\.command\(", read_text(path), re.M)}
  commands |= {str(path) for path in launch
               if path.suffix == ".sh" and os.access(ROOT / path, os.X_OK)}
  named = [name for row in readme_table("Commands")
           for name in re.findall(r"`([^`]+)`", row)]
  assert sorted(named) == sorted(commands)


def test_every_command_tells_its_flags_without_opening_anything(capsys):
  for row in readme_table("Commands"):
    name = row.strip("`")
    if name.endswith(".sh"):
      continue
    module = __import__(f"launch.{name}", fromlist=["main"])
    with pytest.raises(SystemExit) as stop:
      module.main(["--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 100, name


def test_the_index_and_the_links_of_the_readme_lead_somewhere():
  text = read_text("README.md")
  for name in re.findall(r"`([\w/.]+\.(?:py|sh|md|json))`", text):
    if re.match(r"configs/[A-Z]", name):
      continue  # a placeholder in a command line
    assert any((ROOT / place / name).exists()
               for place in ("", "drivemoe_jax", "data_pipeline")), name
  for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
    assert (ROOT / link).exists(), link


def test_files_are_short_and_say_what_they_are_for():
  for path, text in program_sources().items():
    lines = len(text.splitlines())
    assert lines <= 320, f"{path}: {lines} lines, split it by what it does"
    explains = path.name == "__init__.py" or ast.get_docstring(ast.parse(text))
    assert explains, f"{path}: no docstring"
    assert path.name != "utils.py", f"{path}: name it by what it does"


def test_nothing_names_a_machine_or_a_registry():
  # Written in pieces, or this file would find itself.
  words = [rf"(?<![\w.$}}])/{place}/" for place in
           ("home", "root", "work", "Users", "opt", "mnt", "tmp")]
  words += [r"index-url[ =]\S*://", "py" + r"pi\.org",
            "files.python" + "hosted"]
  for path in tracked_files():
    text = read_text(path)
    found = text and re.search("|".join(words), text)
    assert not found, f"{path}: {found.group()}"


def declared():
  """Requirements of a plain install, as packaging.Requirement."""
  lines = read_text("requirements.txt").splitlines()
  return [requirements.Requirement(line) for line in lines
          if line and not line.startswith("#")]


def test_every_import_is_declared_and_every_requirement_imported():
  imported = set()
  for text in program_sources().values():
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.Import):
        imported |= {alias.name.split(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        imported.add(node.module.split(".")[0])
  optional = {"torch", "torchvision", "wandb", "apache_beam", "carla",
              "agents", "leaderboard"}
  wanted = {IMPORTED_AS.get(r.name, r.name) for r in declared()}
  here = set(PACKAGES) | set(sys.stdlib_module_names)
  assert imported - here - optional == wanted - FOR_OTHERS


def test_the_lock_pins_what_is_declared():
  pins = {}
  lock = read_text("requirements.lock")
  for name, version in re.findall(PIN, lock, re.M):
    pins.setdefault(utils.canonicalize_name(name), set()).add(version)
  extras = tomllib.loads(read_text("pyproject.toml"))["project"][
      "optional-dependencies"]
  for need in declared() + [requirements.Requirement(x)
                            for x in extras["dev"]]:
    versions = pins[utils.canonicalize_name(need.name)]
    assert all(need.specifier.contains(v) for v in versions), need
  hashes = re.findall(PIN + r".*\\\n    --hash=sha256:", lock, re.M)
  assert len(hashes) == sum(map(len, pins.values()))


def test_the_lock_pins_each_extra_that_a_package_asks_for():
  """pip before 23.3 takes `coverage[toml]` and `coverage` for two things and
  refuses a lock that pins the second alone, once a newer one is out."""
  pinned = {}
  for line in re.findall(r"^[\w.-]+\[.*\]==", read_text("requirements.lock"),
                         re.M):
    one = requirements.Requirement(line.removesuffix("=="))
    pinned[utils.canonicalize_name(one.name)] = one.extras
  names = {utils.canonicalize_name(name) for name, _ in re.findall(
      PIN, read_text("requirements.lock"), re.M)}
  asked = 0
  for dist in metadata.distributions():
    if utils.canonicalize_name(dist.metadata["Name"]) in names:
      for text in dist.requires or []:
        need = requirements.Requirement(text)
        if need.extras and (not need.marker or need.marker.evaluate(
            {"extra": ""})):
          asked += 1
          assert need.extras <= pinned.get(
              utils.canonicalize_name(need.name), set()), (
                  f"{dist.metadata['Name']} asks for {need}")
  assert asked


def test_each_line_of_the_lock_is_a_pin_or_its_hash():
  """No address, no option, no package from a folder or a repository."""
  allowed = re.compile(
      r"[\w.-]+(\[[\w, ]+\])?==[\w.!+]+( ; [^\\]+)? \\"
      r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
      r"|    #( via)?( +[\w.\[\]-]+( \(([\w.-]+)\))?)?")
  lines = read_text("requirements.lock").splitlines()
  assert not [line for line in lines if not allowed.fullmatch(line)]
  for pin, hashes in zip(lines, lines[1:]):
    assert not pin.endswith("\\") or hashes.startswith("    --hash="), pin
