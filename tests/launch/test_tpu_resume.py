"""pod.sh on a slice that comes late, is taken away, fails and comes back."""

import fcntl

import pytest

from tests.launch.tpu_stub import LOOK, UP, Stub


@pytest.fixture
def stub(tmp_path):
  return Stub(tmp_path)


@pytest.mark.parametrize("bucket, status, says", [
    ("US-EAST1,True", 2, "E-CONFIG: gs://buck lies in US-EAST1"),
    ("US,True", 2, "E-CONFIG: gs://buck lies in US"),
    ("US-WEST4,", 4, "E-DISK: gs://buck has no hierarchical namespace"),
])
def test_a_bucket_that_costs_or_tears_checkpoints_is_refused(
    stub, bucket, status, says):
  stub.put(bucket=[bucket])
  found, _, err = stub.run("create")
  assert found == status and err.startswith(says)
  assert "queued-resources create" not in stub.calls()


@pytest.mark.parametrize("state", ["ACTIVE", "WAITING_FOR_RESOURCES"])
def test_a_request_that_is_there_is_not_made_again(stub, state):
  stub.put(state=[state])
  assert stub.run("create")[0] == 0
  assert stub.calls() == UP[:2]


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_dead_request_makes_room_for_a_new_one(stub, state):
  stub.put(state=[state])
  assert stub.run("create")[0] == 0
  assert [c for c in stub.calls() if "describe" not in c] == [
      "queued-resources delete", "queued-resources create"]


def test_waiting_is_bounded_and_a_failed_request_tells(stub):
  stub.put(state=["PROVISIONING"])
  status, _, err = stub.run("wait", WAIT_S="0")
  assert status == 75 and "moe is still PROVISIONING" in err
  stub.put(state=["FAILED"])
  status, _, err = stub.run("wait")
  assert status == 75 and "E-TPU: the request moe failed: FAILED" in err
  stub.put(state=["SUSPENDED"])
  assert stub.run("wait")[0] == 75


def test_a_preempted_slice_is_made_again_and_the_training_goes_on(stub):
  stub.put(status=["idle idle", "running running", "SUSPENDED", "idle idle",
                   "running running", "exit_0 exit_0"])
  status, out, err = stub.run("resume")
  assert (status, err) == (0, "")
  assert "relaunch 1 of at most 100: gone" in out
  again = ["storage buckets describe", "queued-resources describe",
           "queued-resources delete", "queued-resources describe", *UP[2:]]
  assert stub.calls() == [*UP, *LOOK, *LOOK, *LOOK[:1], *again, *LOOK, *LOOK,
                          "tpu-vm scp"]


@pytest.mark.parametrize("first, why", [
    ("exit_75_preempted:_step_5 exit_75", "preempted"),
    ("exit_6_E-PEER:_1_is_gone exit_6", "failed"),
    ("exit_6 lost", "failed"), ("exit_137 exit_6", "failed"),
])
def test_what_a_relaunch_mends_is_relaunched_on_all_workers(stub, first, why):
  stub.put(status=["idle idle", "running running", first, first,
                   "exit_0 exit_0"])
  status, out, _ = stub.run("resume")
  assert status == 0
  assert f"relaunch 1 of at most 100: {why}" in out
  verbs = [c for c in stub.calls() if " " not in c and c != "status"]
  assert verbs == ["stop", "install", "preflight", "start"] * 2
  assert "queued-resources delete" not in stub.calls()


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_what_no_relaunch_mends_stops_and_says_why(stub, code):
  # The survivor's code 6 is a consequence, whatever the order.
  stub.put(status=["idle idle", "running running",
                   f"exit_6_E-PEER:_0 exit_{code}_E-CKPT:_cannot_be_read"])
  status, out, err = stub.run("resume")
  assert status == code and "relaunch 1" not in out
  assert err == ("E-TPU: no relaunch mends this: host-w-1: exit "
                 f"{code} E-CKPT: cannot be read\n")
  assert stub.calls()[-1] == "tpu-vm scp"


def test_a_config_that_preflight_refuses_never_starts(stub):
  stub.put(preflight=["exit_2_preflight_failed exit_2_preflight_failed"])
  status, _, err = stub.run("resume")
  assert status == 2 and "no relaunch mends this" in err
  assert "start" not in stub.calls()


def test_failures_in_a_row_are_bounded_and_preemptions_apart(stub):
  stub.put(status=["idle idle", "exit_6 exit_6"])
  status, out, err = stub.run("resume", MAX_FAILURES="2")
  assert status == 6 and "failed 2 of 2 times in a row: host-w-0: exit 6" in out
  assert err.startswith("E-TPU: workers failed: host-w-0: exit 6")
  assert stub.calls().count("start") == 2
  stub.put(calls=[], status=["idle idle", "exit_75 exit_75"])
  status, _, err = stub.run("resume", MAX_FAILURES="2", MAX_RELAUNCHES="3")
  assert status == 75 and err.startswith("E-TPU: the slice was taken away or")
  assert stub.calls().count("start") == 4


def test_an_install_that_fails_is_tried_again(stub):
  stub.put(install=["exit_2_install_failed ready", "ready none",
                    "ready ready"])
  assert stub.run("resume")[0] == 0
  assert [c for c in stub.calls() if c in ("install", "start")] == [
      "install", "install", "install", "start"]


def test_survivors_have_time_to_notice_a_lost_peer(stub):
  stub.put(status=["idle idle", "running lost", "running lost", "exit_6 lost",
                   "idle idle", "exit_0 exit_0"])
  assert stub.run("resume")[0] == 0
  calls = stub.calls()
  assert calls[calls.index("start"):].count("stop") == 1
  between = calls[calls.index("start"):calls.index(
      "stop", calls.index("start"))]
  assert between.count("status") == 4  # three looks, one before the relaunch


def test_a_training_that_runs_is_followed_and_not_doubled(stub):
  stub.put(state=["ACTIVE"], status=["running running", "running none",
                                     "exit_0 exit_0"])
  assert stub.run("resume")[0] == 0
  assert not {"start", "stop", "install"} & set(stub.calls())


def test_one_resume_on_a_machine_is_enough(stub):
  (stub.folder / "logs").mkdir()
  with open(stub.folder / "logs" / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    status, _, err = stub.run("resume")
    assert status == 2 and "another resume of moe" in err
  assert not stub.calls()


def test_an_active_slice_that_does_not_answer_is_left_alone(stub):
  stub.put(state=["ACTIVE"], status=["running running", "none none"])
  status, _, err = stub.run("resume", DELETE_AT_END="yes")
  assert status == 6 and "2 of 2 workers do not answer" in err
  assert stub.calls().count("status") == 11
  assert not {"stop", "queued-resources delete"} & set(stub.calls())


def test_the_slice_is_given_back_at_the_end_only_if_asked(stub):
  assert stub.run("resume")[0] == 0
  assert "queued-resources delete" not in stub.calls()
  stub.put(calls=[], status=["idle idle", "exit_0 exit_0"])
  assert stub.run("resume", DELETE_AT_END="yes")[0] == 0
  assert stub.calls()[-3:] == ["tpu-vm scp", "queued-resources delete",
                               "queued-resources describe"]


@pytest.mark.parametrize("answers, code", [
    ("exit_0 exit_0", 0), ("exit_75 exit_75", 75), ("exit_6 exit_6", 6),
    ("exit_3 exit_6", 3), ("bare;_install_first bare;_install_first", 6)])
def test_train_alone_starts_once_and_passes_the_code_on(stub, answers, code):
  stub.put(state=["ACTIVE"], status=[answers])
  if "bare" in answers:
    stub.put(start=[answers])
  assert stub.run("train")[0] == code
  assert stub.calls().count("start") == 1
