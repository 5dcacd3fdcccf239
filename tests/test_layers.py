"""Imports point down only: the table of layers, checked on the source text.

Each module has a layer and a room (its package, or itself). It may import what
lies in a lower layer or in its own room; the few steps sideways are listed
with their reason. Heavy packages stay in the modules that need them.
"""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("data_pipeline", "drivemoe_jax", "configs", "launch")

# Ordered, first full match wins; a module without a match is an error.
LAYERS = (
    (r"data_pipeline(\..+)?", 0),
    (r"configs(\..+)?", 0),
    (r"drivemoe_jax(\.preemption)?", 0),
    (r"drivemoe_jax\.(models(\..+)?|flow|losses|meshes|optim|sharding)", 1),
    (r"drivemoe_jax\.(hosts|rendezvous)", 1),
    (r"drivemoe_jax\.health", 2),
    (r"drivemoe_jax\.(fit|lines|resume|stepfolders)", 1),
    (r"drivemoe_jax\.(installed|surroundings)", 1),
    (r"drivemoe_jax\.weights(\.(blocks|hf_config|infer|names|regions|store"
     r"|tensors))?", 1),
    (r"drivemoe_jax\.(step|checkpoint|logs|saver|tolerance)", 2),
    (r"drivemoe_jax\.(compile_cache|memory|mishaps|run_config)", 2),
    (r"drivemoe_jax\.evaluators(\..+)?", 2),
    (r"drivemoe_jax\.(adopt|build|datasets|inventory|init_from|loop|policy|serve|train)",
     3),
    (r"drivemoe_jax\.(golden|parity)", 3),
    (r"drivemoe_jax\.(plan|report)(\..+)?", 3),
    (r"drivemoe_jax\.preflight", 3),
    (r"drivemoe_jax\.weights\..+", 3),
    (r"launch(\..+)?", 4),
)
SIDEWAYS = {
    # (importer's room, imported module): reason
    ("drivemoe_jax.models", "drivemoe_jax.flow"):
        "sampling integrates the velocity that the model gives",
    ("drivemoe_jax.sharding", "drivemoe_jax.meshes"):
        "the table names the axes of the mesh",
    ("drivemoe_jax.adopt", "drivemoe_jax.build"):
        "a copied step is held against what the config builds",
    ("drivemoe_jax.datasets", "drivemoe_jax.build"):
        "a host reads its rows of the mesh that is built",
    ("drivemoe_jax.hosts", "drivemoe_jax.rendezvous"):
        "to join is to meet first",
    ("drivemoe_jax.surroundings", "drivemoe_jax.installed"):
        "what does not load is a finding like a bad version",
    ("drivemoe_jax.preflight", "drivemoe_jax.build"):
        "what is checked is what the run will be",
    ("drivemoe_jax.preflight", "drivemoe_jax.plan.analytic"):
        "and whether it fits",
    ("drivemoe_jax.train", "drivemoe_jax.build"):
        "the loop is wired from what build makes of a config",
    ("drivemoe_jax.train", "drivemoe_jax.datasets"):
        "and fed with the data that it names",
    ("drivemoe_jax.train", "drivemoe_jax.loop"):
        "updates are made there",
    ("drivemoe_jax.train", "drivemoe_jax.init_from"):
        "and begins with what that source holds",
    ("drivemoe_jax.init_from", "drivemoe_jax.weights.sources"):
        "a run may start from weights of any format",
    ("drivemoe_jax.init_from", "drivemoe_jax.weights.read"):
        "and says what of them it can do without",
    ("drivemoe_jax.inventory", "drivemoe_jax.build"):
        "what a run would be is told by its own parts",
    ("drivemoe_jax.plan", "drivemoe_jax.build"):
        "a plan compiles the parts that a run is made of",
    ("drivemoe_jax.golden", "drivemoe_jax.weights.read"):
        "a reference case holds official weights",
    ("drivemoe_jax.golden", "drivemoe_jax.weights.write"):
        "and PaliGemma's are turned into them",
    ("drivemoe_jax.parity", "drivemoe_jax.golden"):
        "parity runs reference cases",
}
# Which modules may import a package at all, as a full match.
ONLY_IN = {
    "jax": r"drivemoe_jax\..+|launch\..+",
    "flax": r"drivemoe_jax\..+|launch\..+",
    "optax": r"drivemoe_jax\..+|launch\..+",
    "orbax": r"drivemoe_jax\.checkpoint",
    "ml_collections": r"configs\..+|drivemoe_jax\.(build|run_config|train)"
                      r"|launch\..+",
    "tensorflow": r"data_pipeline\.tf_cpu",
    "highway_env": r"data_pipeline\.miniworld\..+",
    "cv2": r"data_pipeline\.miniworld\..+",
    "matplotlib": r"drivemoe_jax\.report(\..+)?",
    "torch": r"launch\.(bench\..+|forward)",
    "tensorstore": r"drivemoe_jax\.weights\.store",
    "wandb": r"drivemoe_jax\.logs",
    "carla": r"data_pipeline\.labels\.opendrive|launch\.carla\..+"
             r"|drivemoe_jax\.evaluators\.bench2drive\.junctions",
    "agents": r"drivemoe_jax\.evaluators\.bench2drive\.junctions",
    "leaderboard": r"launch\.carla\..+",
}
NEEDS_MORE = {"launch.carla.agent",         # CARLA's evaluator loads it
              "launch.bench.pytorch_port",  # the side that is PyTorch's
              "launch.bench.torch_sides"}
# Rooms that may import nothing but this, the standard library and themselves.
NOTHING_BUT = {
    "configs": {"ml_collections"},
    "drivemoe_jax.models": {"jax", "flax", "numpy", "drivemoe_jax.flow"},
    "drivemoe_jax.flow": {"jax"},
    "drivemoe_jax.losses": {"jax"},
}


def layer_of(module):
  for pattern, layer in LAYERS:
    if re.fullmatch(pattern, module):
      return layer
  raise ValueError(f"no layer for {module!r}; add a row to LAYERS")


def room_of(module):
  """`drivemoe_jax.models.gemma` -> `drivemoe_jax.models`."""
  parts = module.split(".")
  return ".".join(parts[:2] if parts[0] == "drivemoe_jax" else parts[:1])


def read_tree():
  """{dotted module name: source text} of everything the program ships."""
  sources = {}
  for package in PACKAGES:
    for path in (ROOT / package).rglob("*.py"):
      parts = path.relative_to(ROOT).with_suffix("").parts
      name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
      sources[name] = path.read_text(encoding="utf-8")
  return sources


def imports_of(text, packages):
  """Yields the dotted names that a source imports, anywhere in it."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      if node.level:
        yield "." * node.level + (node.module or "")
        continue
      for alias in node.names:
        inside = node.module in packages  # then a module, not a function
        yield f"{node.module}.{alias.name}" if inside else node.module


def find_faults(sources):
  """Returns one line for each import that points where it must not."""
  faults = []
  packages = {name.rpartition(".")[0] for name in read_tree()}
  for module, text in sources.items():
    room = room_of(module)
    for name in imports_of(text, packages):
      top = name.split(".")[0]
      line = f"{module} imports {name}"
      if name.startswith("."):
        faults.append(f"{line}: write the absolute name")
      elif top in PACKAGES:
        sideways = layer_of(name) == layer_of(module) and not (
            room_of(name) == room or (room, name) in SIDEWAYS)
        if layer_of(name) > layer_of(module) or sideways:
          faults.append(f"{line}: layer {layer_of(module)} to "
                        f"{layer_of(name)}")
      elif not re.fullmatch(ONLY_IN.get(top, ".*"), module):
        faults.append(f"{line}: {top} belongs to {ONLY_IN[top] or 'nothing'}")
      if room in NOTHING_BUT and room_of(name) != room and not (
          top in sys.stdlib_module_names
          or {top, name} & NOTHING_BUT[room]):
        faults.append(f"{line}: {room} may not know it")
  return faults


def test_imports_point_down():
  assert not "\n".join(find_faults(read_tree()))


@pytest.mark.parametrize("module, text", [
    ("data_pipeline.new", "import jax"),
    ("data_pipeline.new", "from drivemoe_jax import flow"),
    ("data_pipeline.new", "from configs import common"),
    ("configs.new", "from data_pipeline import errors"),
    ("configs.new", "import numpy as np"),
    ("drivemoe_jax.models.new", "import ml_collections"),
    ("drivemoe_jax.models.new", "from drivemoe_jax import losses"),
    ("drivemoe_jax.models.new", "from drivemoe_jax import sharding"),
    ("drivemoe_jax.losses", "from drivemoe_jax import flow"),
    ("drivemoe_jax.optim", "from drivemoe_jax.models import drivemoe"),
    ("drivemoe_jax.weights.names", "def f():\n  import torch"),
    ("drivemoe_jax.step", "from drivemoe_jax import train"),
    ("drivemoe_jax.evaluators.new", "from drivemoe_jax import step"),
    ("drivemoe_jax.report", "from launch import cli"),
    ("drivemoe_jax.models.new", "from . import gemma"),
    ("launch.new", "import carla"),
])
def test_a_wrong_import_is_found(module, text):
  assert find_faults({module: text})


@pytest.mark.parametrize("module, text", [
    ("configs.new", "import ml_collections\nfrom configs import common"),
    ("drivemoe_jax.models.new", "from drivemoe_jax import flow"),
    ("drivemoe_jax.step", "from drivemoe_jax import losses, optim"),
    ("launch.forward", "def f():\n  import torch"),
    ("launch.new", "import jax\nfrom drivemoe_jax import train"),
])
def test_a_right_import_is_not(module, text):
  assert not find_faults({module: text})


def test_a_module_without_a_layer_is_an_error():
  with pytest.raises(ValueError, match="add a row"):
    layer_of("drivemoe_jax.helpers")


def run_python(code):
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_lower_layers_load_neither_tensorflow_nor_torch():
  low = [m for m in read_tree() if m.startswith("drivemoe_jax")
         and layer_of(m) <= 1]
  run_python(f"import sys, {', '.join(low)}\n"
             "assert not {'tensorflow', 'torch'} & set(sys.modules)")


def test_every_module_loads_without_torch():
  modules = sorted(read_tree().keys() - NEEDS_MORE)
  run_python("import sys\nsys.modules['torch'] = None\n"
             f"import {', '.join(modules)}")
