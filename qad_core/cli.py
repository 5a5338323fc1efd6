"""The command line: its commands in the order of `--help`, and how an error is shown.

What can be asked is in `cli_parts/`; each command's work is in `commands/`, and imported when it is called, so that
`qad_core --help` and a mistyped command answer at once. Errors are caught in `main`, once: message and hint, exit
code of the error, no traceback; with --json they are JSON as well. Anything that is not a QadError is our own bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from qad_core import __version__
from qad_core.cli_parts import configs, experiments, machines, runs
from qad_core.commands.streams import give_up_output, let_any_text_be_shown, refuse_other_text
from qad_core.errors import ExitCode, QadError, explain_os_error

app = typer.Typer(
    name="qad_core",
    help="Recover the accuracy of NVFP4 language models by quantization-aware distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    experiments.check,
    experiments.train,
    experiments.submit,
    runs.cancel,
    runs.status,
    runs.logs,
    runs.metrics,
    runs.compare,
    runs.dashboard,
    runs.evaluate,
    runs.export,
    experiments.demo,
    machines.doctor,
    machines.system,
    experiments.convert_conf,
):
    app.command()(command)
app.command("import")(configs.import_model)
app.add_typer(configs.data_app, name="data")
app.add_typer(configs.config_app, name="config")
app.add_typer(machines.queue_app, name="queue", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def _options(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the only place that catches errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    let_any_text_be_shown()
    try:
        refuse_other_text(arguments)
        code = app(arguments, prog_name="qad_core", standalone_mode=False) or ExitCode.DONE
        sys.stdout.flush()  # an output that takes no more says so here, and not when the interpreter ends
        return code
    except QadError as error:
        return _show(error, as_json)
    except typer.TyperException as error:
        if not error.format_message():  # a command without its subcommand has shown its help
            return ExitCode.USER_ERROR
        return _show(QadError(error.format_message(), "`qad_core COMMAND --help` lists what can be given."), as_json)
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does.
        give_up_output()
        return ExitCode.DONE
    except SystemExit as error:
        # rich and typer leave so when the reader has left.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        give_up_output()
        return ExitCode.DONE
    except OSError as error:
        return _show(explain_os_error(error), as_json)


def _show(error: QadError, as_json: bool) -> int:
    from qad_core.commands.output import error_console, print_json, problems_of

    try:
        if as_json:
            print_json(None, problems_of(error))
        sys.stdout.flush()
    except OSError:  # then it is the output itself that has failed, or has failed since
        give_up_output()
        as_json = False
    if not as_json:
        error_console().print(f"error: {error}", markup=False)
    return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
