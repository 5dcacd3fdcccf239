"""A hand-written program: two nested loops, one gather in pieces.

Entry: outer loop 5x (its trip count is stated), in it an inner one 4x (its
bound is a constant of its condition). Numbers in the tests are worked out by
hand from nested_loops.txt.
"""

import pathlib
import re

import pytest

from drivemoe_jax.plan import hlo

TEXT = (pathlib.Path(__file__).parent / "nested_loops.txt").read_text()


@pytest.fixture(scope="module")
def program():
  return hlo.read(TEXT)


def test_cycles_are_weighed_by_the_loops_around_them(program):
  # entry 3 + 40; outer body (2 + 100) x 5; inner body 11 x 4 x 5
  assert program.cycles == 43 + 102 * 5 + 11 * 20
  assert program.cycles_by_op == {"fusion": 770, "add": 3}


def test_a_stated_trip_count_wins_over_the_condition(program):
  assert program.loops == {"scan": 5, "windowed_dot_general.3": 4}
  assert not program.unresolved


@pytest.mark.parametrize("old, new", [
    ("u32[]{:T(128)} constant(4)", "u32[]{:T(128)} parameter(1)"),
    ("%bound.0 = u32[]{:T(128)} constant(4)",
     "%bound.0 = u32[]{:T(128)} constant(4)\n"
     "  %other.0 = u32[]{:T(128)} constant(8)")])
def test_a_loop_without_one_bound_is_unresolved(old, new):
  changed = TEXT.replace(old, new)
  assert changed != TEXT
  assert hlo.read(changed).unresolved == ["windowed_dot_general.3"]


def test_an_asynchronous_gather_counts_where_it_starts(program):
  # The outer body starts it; the fusion beside it and the inner loop only
  # carry it on, under the same channel.
  gathers = [m for m in program.collectives if m.kind == "all-gather"]
  assert [(m.times, m.bytes) for m in gathers] == [(5, 1024)]


def test_collectives_that_share_a_channel_all_count():
  line = next(l for l in TEXT.splitlines() if "%permute.1 =" in l)
  text = TEXT.replace(line, line + "\n" + line.replace(
      "%permute.1", "%permute.2"))
  assert hlo.by_kind(hlo.read(text).collectives)["collective-permute"] == {
      "count": 40, "bytes": 40 * 16}


def test_without_a_start_a_gather_counts_once_for_each_body():
  # Outer body: two computations of one channel; inner body: once more.
  text = TEXT.replace("AsyncCollectiveStart", "Other")
  gathers = [m for m in hlo.read(text).collectives if m.kind == "all-gather"]
  assert [m.times for m in gathers] == [5, 20]


def test_bytes_by_kind(program):
  assert hlo.by_kind(program.collectives) == {
      "all-gather": {"count": 5, "bytes": 5 * 8 * 64 * 2},
      "collective-permute": {"count": 20, "bytes": 20 * 16},
      "all-reduce": {"count": 1, "bytes": 4 * 4 + 6 * 4},  # two in one
      "reduce-scatter": {"count": 1, "bytes": 2 * 12}}


@pytest.mark.parametrize("notation, ids", [
    ("replica_groups={{0,2},{1,3}}", (0, 2)),
    ("replica_groups={{0,1,2,3}}", (0, 1, 2, 3)),
    ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
    ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
    ("replica_groups=[4,2]<=[2,2,2]T(1,2,0)", (0, 4)),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", (0, 4)),
    ("replica_groups=mesh['a'=2,'b'=2,'c'=2] {'a','c'}", (0, 1, 4, 5)),
    ("channel_id=3", ())])
def test_the_first_group_in_every_notation(notation, ids):
  text = re.sub(r"replica_groups=\{\{0,2\},\{1,3\}\}", notation, TEXT)
  found = [m for m in hlo.read(text).collectives if m.kind == "reduce-scatter"]
  assert found[0].group == ids


def test_what_slices_send_each_other_is_apart(program):
  assert hlo.by_kind(program.across) == {
      "all-reduce": {"count": 5, "bytes": 5 * 16 * 8 * 4}}


def test_copies_in_hbm_are_found_and_prefetches_are_not(program):
  assert [(m.kind, m.arrays, m.source) for m in program.copies] == [
      ("fusion", (("bf16", (64, 32)),), "jit(f)/sliced")]


def test_custom_calls_are_counted(program):
  assert program.custom_calls == {"AsyncCollectiveStart": 5}
