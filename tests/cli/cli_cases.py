"""Running commands in tests."""

import json

from typer.testing import CliRunner

from sardonyx.cli.main import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments):
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error_of(*arguments):
    """The error a command ends with: the same as JSON on stdout and as a block on stderr."""
    told, result = invoke(*arguments), invoke(*arguments, "--json")
    assert (told.exit_code, result.exit_code) == (1, 1), told.output + result.output
    error = json.loads(result.stdout)["error"]
    assert told.stdout == ""
    assert f"error: {error['code']}" in told.stderr
    assert result.stderr == ""
    return error
