"""A plan for a person."""

GB, GIB = 1e9, 2**30
CAVEAT = ("estimated from the compiler's cycle counts: no communication in "
          "it, +-30 %, never a measurement")


def memory(d):
  """Lines that are known first."""
  b = d["bytes_per_chip"]
  mesh = " x ".join(f"{axis} {n}" for axis, n in d["mesh"].items())
  slices = f"{d['slices']} x " if d["slices"] > 1 else ""
  lines = [
      f"{d['what']} on {slices}{d['topology']} ({d['chips']} chips), {mesh}, "
      f"{d['batch_per_chip']} samples per chip, remat {d['remat']}",
      f"method       {d['method']}" + (
          f", libtpu {d['libtpu']}" if d["method"] == "compiled" else
          ": arithmetic, memory only; " + (
              "no compiler asked" if d["libtpu"] else
              "to compile, .venv/bin/pip install -e '.[plan]'"))]
  if d["devices_per_chip"] > 1:
    lines.append(f"             a chip is {d['devices_per_chip']} devices; "
                 "figures are per chip")
  for name in ("arguments", "temporaries", "peak"):
    if b[name] is not None:
      lines.append(f"{name:12} {b[name] / GB:8.3f} GB per chip")
  share = 100 * b["peak"] / b["hbm"]
  lines.append(f"{'HBM':12} {b['hbm'] / GB:8.3f} GB that programs get: "
               f"{share:.0f} % used")
  return lines


def over_budget(d):
  """Need, budget and remedies in one line."""
  b = d["bytes_per_chip"]
  tries = ", ".join(f"{t['change']} (-{t['saves_bytes'] / GIB:.1f})"
                    for t in d["suggestions"])
  return (f"needs ~{b['peak'] / GIB:.1f} of {b['hbm'] / GIB:.1f} GiB per chip. "
          f"Try: {tries or 'more chips'}. Savings are estimates in GiB.")


def program(d):
  """Lines that need the compiled program."""
  if d["refused"]:
    return [f"refused      {d['refused']}"]
  if d["estimated_cycles"] is None:
    return []
  lines = [f"compiled in  {d['compile_seconds']:8.0f} s"]
  for kind, c in sorted(d["collectives"].items()):
    lines.append(f"{kind:18} {c['count']:6} per step, {c['bytes'] / GB:8.3f} "
                 "GB per chip")
  for kind, c in sorted(d["across_slices"].items()):
    lines.append(f"between slices: {kind} {c['count']} per step, "
                 f"{c['bytes'] / GB:.3f} GB per chip")
  loops = ", ".join(f"{name} {n}" for name, n in d["loops"].items())
  lines += [
      f"loops        {loops or 'none'}",
      f"forward      {d['model_flops_per_sample'] / 1e12:8.3f} TFLOP "
      "per sample",
      f"cycles       {d['estimated_cycles'] / 1e6:8.1f} M at "
      f"{d['clock_ghz']} GHz",
      f"time         {d['estimated_ms']:8.1f} ms ({CAVEAT})",
      f"no less than {d['bound_ms']['compute']:8.1f} ms of compute at peak, "
      f"{d['bound_ms']['bytes']:.1f} ms of memory traffic",
      f"MFU          {d['estimated_mfu']:8.2f} (same caveat)"]
  return lines + _findings(d)


def _findings(d):
  lines = []
  gathers = d["gathers"]
  if gathers:
    ratio = gathers["parameter_bytes"] / d["trained_bf16_bytes"]
    lines.append(f"gathered     {gathers['parameter_bytes'] / GB:8.3f} GB of "
                 f"parameters, {ratio:.2f} x the trained ones in bfloat16")
    for name, what in (("not_bf16", "gathered wider than bfloat16"),
                       ("embedding", "gathers the token table"),
                       ("experts", "gathers experts over their axis")):
      lines += [f"LOOK: {what}: {line}" for line in gathers[name]]
  for line in d["weight_copies"] or ():
    lines.append(f"LOOK: moves a whole weight: {line}")
  return lines
