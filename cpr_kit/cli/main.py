"""`cpr`: a command is a file of this folder, imported when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from cpr_kit.cli.terminal import fail
from cpr_kit.errors import CprError
from cpr_kit.version import __version__

COMMANDS = (
    "init", "build", "serve", "run", "predict", "check", "compare", "inspect", "warmup", "push", "mirror", "plan", "up",
    "status", "rollback", "down", "logs", "iam", "doctor", "base", "convert", "lock", "migrate", "emulate",
)  # fmt: skip
_INTERRUPTED = 130


class Commands(click.Group):
    """Names first, files when asked: `cpr predict` never imports what `cpr build` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f'there is no command "{cmd_name}"; there are {", ".join(COMMANDS)}')
        command: click.Command = importlib.import_module(f"cpr_kit.cli.{cmd_name}").command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cpr")
def cpr() -> None:
    """Build, run and check model-serving containers for Vertex AI.

    \b
    Example:
      cpr init iris --kind sklearn
      cd iris && python train.py
      cpr predict . --json requests/two_rows.json

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 something is missing here, 4 the other side refused.
    """


def main() -> None:
    """The one place that catches what the rooms raise."""
    own = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv  # `cpr emulate -- COMMAND --json`
    as_json = "--json" in own and "predict" not in own[:2]
    try:
        code = cpr.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        # `cpr ... | head`: whoever read has gone, and so have the words.
        sys.stdout = None
        code = 1
    except CprError as error:
        code = fail(error, as_json=as_json)
    sys.exit(code)
