"""What every command shares: a mistake is one line and an exit code."""

import pytest

from data_pipeline import errors
from launch import cli


def command(run):
  return cli.command("", lambda parser: parser.add_argument("--out"), run)


def test_a_place_that_cannot_be_written_is_a_line(tmp_path, capsys):
  write = command(lambda args: cli.write_json(args.out, {"a": 1}))
  assert write(["--out", str(tmp_path / "new" / "a.json")]) == 0
  (tmp_path / "file").write_text("")
  assert write(["--out", str(tmp_path / "file" / "a.json")]) == 4
  error = capsys.readouterr().err
  assert error.startswith("E-DISK: ") and error.count("\n") == 1


def test_a_file_that_cannot_be_opened_is_a_line(tmp_path, capsys):
  def read(args):
    with open(args.out, encoding="utf-8") as file:
      return file.read()
  assert command(read)(["--out", str(tmp_path / "none")]) == 4
  assert f"{tmp_path / 'none'}: No such file" in capsys.readouterr().err


def test_errors_of_ours_have_their_codes_and_others_their_traceback():
  def refuse(args):
    raise errors.DataError("bad")
  assert command(refuse)([]) == 3

  def broken(args):
    raise OSError("no file is named")
  with pytest.raises(OSError, match="no file"):
    command(broken)([])


@pytest.mark.parametrize("text", ['{"seed": null}', "seed = 0", "def ("])
def test_a_file_that_is_no_config_is_told(tmp_path, text):
  path = tmp_path / "config.json"
  path.write_text(text)
  with pytest.raises(errors.ConfigError, match=f"{path} is no config file"):
    cli.load_config(str(path))
